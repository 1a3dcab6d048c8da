/** A fault in a handler that nobody awaits: the process says so, finishes what can be finished, and ends as failed. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { AuthService } from "../gen/concierge/auth/v1/auth_service_pb.ts";
import { ExitCode } from "./errors.ts";
import { auth } from "./services/auth/service.ts";
import { startCommand } from "./testing/command.ts";
import { type TestEnvironment, testEnvironment } from "./testing/environment.ts";
import { until } from "./testing/until.ts";
import { allWires, callWire } from "./testing/wire.ts";

const PRELOAD = fileURLToPath(new URL("./testing/provoke-faults.ts", import.meta.url));
const DRAIN_SECONDS = 2;
const MOST_MS = 6_000;
const CANARY = "canary-Qx7Vw2Zt9Lk4";
const grpc = allWires.find(({ protocol, http }) => protocol === "grpc" && http === "2")!;
const connect = allWires.find(({ protocol, http }) => protocol === "connect" && http === "1.1")!;

describe("a process with a fault that nobody awaits", () => {
  let environment: TestEnvironment;

  before(async () => {
    environment = await testEnvironment([auth]);
  });
  after(() => environment[Symbol.asyncDispose]());

  /** `concierge serve auth`, ready, with handlers that misbehave when they are told to. */
  async function serveAuth() {
    const command = startCommand(["serve", "auth"], {
      ...environment.variables,
      CONCIERGE_PUBLIC_PORT: "0",
      CONCIERGE_INTERNAL_PORT: "0",
      CONCIERGE_DRAIN_SECONDS: String(DRAIN_SECONDS),
      NODE_OPTIONS: `--import=${PRELOAD}`,
    });
    const [line] = await command.printed(/^\{.*"msg":"listening".*$/m);
    const { publicUrl, internalUrl } = JSON.parse(line) as { publicUrl: string; internalUrl: string };
    await until("ready", async () => (await fetch(`${publicUrl}/readyz`)).status === 200);
    const callsInFlight = async () => {
      const metrics = await (await fetch(`${internalUrl}/metrics`)).text();
      return Number(/^rpc_server_calls_in_flight (\d+)$/m.exec(metrics)![1]);
    };
    return { command, publicUrl, callsInFlight };
  }

  for (const fault of ["unhandled", "uncaught"]) {
    for (const wire of [grpc, connect]) {
      test(`S-LOG-08 ${fault}, ${wire.protocol}: the caller is answered or cut, other calls end, exit code 1`, async () => {
        const { command, publicUrl, callsInFlight } = await serveAuth();
        await using _command = command;
        const logout = (refreshToken: string) =>
          callWire(wire, publicUrl, { method: AuthService.method.logout, message: { refreshToken } });
        const other = logout("slow");
        await until("the other call", async () => (await callsInFlight()) > 0);
        const startedAt = performance.now();
        // Whose handler goes on is answered; whose handler never ends is cut off when the process has waited for it.
        const failed = logout(`${fault}-${CANARY}`).then(
          ({ answer, code }) => assert.ok(answer !== undefined || code !== undefined),
          () => {},
        );
        assert.ok((await other).answer, "a call that had nothing to do with it failed");
        const ended = await command.ended();
        await failed;
        assert.ok(performance.now() - startedAt < MOST_MS, "it did not end in time");
        assert.deepEqual([ended.code, ended.signal], [ExitCode.failure, null]);
        assert.match(ended.stdout, /"msg":"stopping".*\n(.*\n)*.*"msg":"stopped/);
        const lines = ended.stderr.trimEnd().split("\n");
        assert.equal(lines.length, 1, ended.stderr);
        const said = JSON.parse(lines[0]!.replace(/^concierge: /, "")) as { message: string; stack: string[] };
        assert.equal(said.message, "password=[redacted] in a handler");
        assert.ok(said.stack.some((frame) => frame.includes("misbehave") || frame.includes("provoke-faults")));
        assert.ok(!`${ended.stdout}${ended.stderr}`.includes(CANARY));
        await assert.rejects(fetch(`${publicUrl}/healthz`));
      });
    }
  }
});
