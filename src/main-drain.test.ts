/** A process that is told to stop while it is being called: as a supervisor and its clients see it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type http2 from "node:http2";
import { after, before, describe, test } from "node:test";
import type { Client } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../gen/grpc/health/v1/health_pb.ts";
import { Code, ExitCode, reasonOf } from "./errors.ts";
import { auth } from "./services/auth/service.ts";
import { allWays, openClient } from "./testing/clients.ts";
import { startCommand } from "./testing/command.ts";
import { type TestEnvironment, testEnvironment } from "./testing/environment.ts";
import { openHttp2 } from "./testing/listener.ts";
import { until } from "./testing/until.ts";
import { frameMessage } from "./testing/wire.ts";

const CALLS = 100;
const STREAMS = 50;
const emptyMessage = frameMessage(Buffer.alloc(0));

/** `concierge serve auth`, ready. */
async function serveAuth({ variables }: TestEnvironment, more: Record<string, string> = {}) {
  const ports = { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };
  const command = startCommand(["serve", "auth"], { ...variables, ...ports, ...more });
  const [line] = await command.printed(/^\{.*"msg":"listening".*$/m);
  const { publicUrl, internalUrl } = JSON.parse(line) as { publicUrl: string; internalUrl: string };
  await until("ready", async () => (await fetch(`${internalUrl}/readyz`)).status === 200);
  return { command, publicUrl, internalUrl };
}

/** Waits until the server has seen so many calls that it has not answered. */
async function inFlight(internalUrl: string, calls: number): Promise<void> {
  await until(`${calls} calls are in flight`, async () => {
    const text = await (await fetch(`${internalUrl}/metrics`)).text();
    return Number(/^rpc_server_calls_in_flight (\d+)$/m.exec(text)?.[1]) >= calls;
  });
}

/** A unary call that is not sent to its end yet. Resolves with its gRPC status once `finish()` was called. */
function beginCall(session: http2.ClientHttp2Session) {
  const stream = session.request({
    ":method": "POST",
    ":path": "/grpc.health.v1.Health/Check",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.write(emptyMessage.subarray(0, 2));
  const status = new Promise<string | undefined>((resolve, reject) => {
    stream.once("trailers", (trailers) => resolve(trailers["grpc-status"] as string));
    stream.once("error", reject).once("close", () => resolve(undefined));
  });
  return { status, finish: () => stream.resume().end(emptyMessage.subarray(2)) };
}

/** Watches until the server ends the watch: what it said, and why it ended. */
async function watch(client: Client<typeof Health>, said: Status[]): Promise<ConnectError> {
  try {
    for await (const { status } of client.watch({})) said.push(status);
  } catch (thrown) {
    return ConnectError.from(thrown);
  }
  return assert.fail("it ended without an error");
}

describe("a process that is told to stop while it is being called", () => {
  let environment: TestEnvironment;
  before(async () => {
    environment = await testEnvironment([auth]);
  });
  after(() => environment[Symbol.asyncDispose]());

  test("R-DEP-02 answers 100 calls, tells 50 streams, says GOAWAY and not ready, and ends with 0 within 10 s", async () => {
    const { command, publicUrl, internalUrl } = await serveAuth(environment);
    await using _command = command;
    using session = await openHttp2(publicUrl);
    using clients = new DisposableStack();
    const calls = Array.from({ length: CALLS }, () => beginCall(session));
    await inFlight(internalUrl, CALLS);
    const said = Array.from({ length: STREAMS }, (): Status[] => []);
    const ways = allWays.filter(({ http }) => http === "2");
    const opened = ways.map((way) => clients.use(openClient<Client<typeof Health>>(Health, way, publicUrl)).client);
    const ends = said.map((statuses, index) => watch(opened[index % opened.length]!, statuses));
    await until("all watch", () => said.every((statuses) => statuses.length === 1));

    const startedAt = performance.now();
    const goingAway = once(session, "goaway");
    command.kill("SIGTERM");
    for (const end of await Promise.all(ends)) {
      assert.deepEqual([Code[end.code], reasonOf(end)], ["Unavailable", "DRAINING"], end.message);
    }
    for (const statuses of said) assert.deepEqual(statuses, [Status.SERVING, Status.NOT_SERVING]);
    await goingAway;
    const ready = await fetch(`${internalUrl}/readyz`);
    assert.equal(ready.status, 503);
    await ready.arrayBuffer();
    await assert.rejects(fetch(`${publicUrl}/readyz`));
    assert.equal(command.stdout().includes('"msg":"stopped"'), false);
    for (const { finish } of calls) finish();
    for (const { status } of calls) assert.equal(await status, "0");
    const ended = await command.ended();
    assert.equal(ended.code, ExitCode.ok);
    assert.ok(performance.now() - startedAt < 10_000);
    assert.match(ended.stdout, /"msg":"stopped"/);
    assert.doesNotMatch(ended.stdout, /"level":"(?:error|fatal)"/);
    assert.equal(ended.stderr, "");
  });

  test("R-DEP-01 with a delay it says that it is not ready, and takes new calls until balancers have noticed", async () => {
    const { command, publicUrl } = await serveAuth(environment, { CONCIERGE_DRAIN_DELAY_SECONDS: "3" });
    await using _command = command;
    const startedAt = performance.now();
    command.kill("SIGTERM");
    await until("it says so", async () => (await fetch(`${publicUrl}/readyz`)).status === 503);
    using session = await openHttp2(publicUrl);
    const call = beginCall(session);
    call.finish();
    assert.equal(await call.status, "0");
    assert.equal((await command.ended()).code, ExitCode.ok);
    assert.ok(performance.now() - startedAt >= 3_000);
  });

  test("calls that never end do not hold it longer than its time", async () => {
    const { command, publicUrl, internalUrl } = await serveAuth(environment, { CONCIERGE_DRAIN_SECONDS: "2" });
    await using _command = command;
    using session = await openHttp2(publicUrl);
    const call = beginCall(session);
    call.status.catch(() => {});
    await inFlight(internalUrl, 1);
    const startedAt = performance.now();
    command.kill("SIGTERM");
    const ended = await command.ended();
    const tookMs = performance.now() - startedAt;
    assert.equal(ended.code, ExitCode.ok);
    assert.ok(tookMs > 900 && tookMs < 4_000, `${tookMs} ms`);
  });

  test("R-DEP-03 the second signal ends it within a second, whatever still runs", async () => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      const { command, publicUrl, internalUrl } = await serveAuth(environment);
      await using _command = command;
      using session = await openHttp2(publicUrl);
      const call = beginCall(session);
      call.status.catch(() => {});
      await inFlight(internalUrl, 1);
      const goingAway = once(session, "goaway");
      command.kill("SIGTERM");
      await goingAway;
      const startedAt = performance.now();
      command.kill(signal);
      const ended = await command.ended();
      assert.ok(performance.now() - startedAt < 1_000);
      assert.equal(ended.code, ExitCode.interrupted);
      assert.doesNotMatch(ended.stdout, /"msg":"stopped"/);
    }
  });

  test("R-DEP-03 a signal at any moment of the start ends it in order", async () => {
    const variables = { ...environment.variables, CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };
    for (const waitMs of [0, 150, 300, 450, 700]) {
      await using command = startCommand(["serve", "auth"], variables);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      const startedAt = performance.now();
      command.kill("SIGTERM");
      const { code, signal, stderr } = await command.ended();
      assert.ok(performance.now() - startedAt < 6_000, `${waitMs} ms`);
      // Before our first line has run, the system ends it.
      assert.ok(code === ExitCode.ok || code === ExitCode.interrupted || signal === "SIGTERM", `${waitMs}: ${code}`);
      assert.doesNotMatch(stderr, /^\s+at |node:internal/m);
    }
  });
});
