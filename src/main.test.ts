/** The process from outside: what it says, how it ends, what it leaves behind. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import http2 from "node:http2";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthService } from "../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "./db/connection.ts";
import { ExitCode, reasonOf } from "./errors.ts";
import { auth } from "./services/auth/service.ts";
import { testCluster, testDatabase } from "./testing/cluster.ts";
import {
  type Ended,
  MAIN_FILE,
  occupiedPort,
  type RunningCommand,
  runCommand,
  startCommand,
} from "./testing/command.ts";
import { type TestEnvironment, testEnvironment } from "./testing/environment.ts";
import { startFaultProxy } from "./testing/fault-proxy.ts";
import { until } from "./testing/until.ts";
import { createServiceKey } from "./token/key-making.ts";

const FREE_PORTS = { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };
const DATABASE_URL = "CONCIERGE_AUTH_DATABASE_URL";
const PIPE_BYTES = 64 * 1024;
const LONG_LIST = 1_500;

let environment: TestEnvironment;

interface Urls {
  publicUrl: string;
  internalUrl: string;
}

/** Waits for the log line that says where it listens. */
async function listening(command: RunningCommand): Promise<Urls> {
  const [line] = await command.printed(/^\{.*"msg":"listening".*$/m);
  return JSON.parse(line) as Urls;
}

async function get(url: string): Promise<{ status: number; body: unknown }> {
  const response = await fetch(url);
  return { status: response.status, body: await response.json() };
}

/** `concierge serve auth`, ready. */
async function serveAuth(...options: string[]) {
  const command = startCommand(["serve", "auth", ...options], { ...environment.variables, ...FREE_PORTS });
  const urls = await listening(command);
  await until("ready", async () => (await get(`${urls.internalUrl}/readyz`)).status === 200);
  return { command, ...urls };
}

/** Nothing that only a programmer understands. */
function assertPlain({ stderr }: Ended): void {
  assert.match(stderr, /^(concierge|error): /);
  assert.doesNotMatch(stderr, /^\s+at |node:internal|"stack"/m);
}

describe("the process", () => {
  before(async () => {
    environment = await testEnvironment([auth]);
  });
  after(() => environment[Symbol.asyncDispose]());

  test("S-CFG-01 with nothing configured: exit 78, all problems at once, no port opened", async () => {
    await using occupied = await occupiedPort();
    const ports = { CONCIERGE_PUBLIC_PORT: String(occupied.port), CONCIERGE_INTERNAL_PORT: "70000" };
    const ended = await runCommand(["serve", "auth", "notification-sender"], { ...ports, CONCIERGE_ATUH_X: "canary" });
    assert.equal(ended.code, ExitCode.config);
    assertPlain(ended);
    const lines = ended.stderr.trimEnd().split("\n");
    assert.equal(lines[0], "concierge: configuration refused, 8 problems:");
    for (const name of [
      "CONCIERGE_ATUH_X is not a known variable",
      "CONCIERGE_INTERNAL_PORT:",
      "CONCIERGE_AUTH_DATABASE_URL is missing",
      "CONCIERGE_AUTH_SERVICE_KEYS is missing",
      "CONCIERGE_AUTH_SIGNING_KEYS is missing",
      "CONCIERGE_AUTH_TOKEN_KEYS is missing",
      "CONCIERGE_NOTIFICATION_SENDER_SERVICE_KEYS is missing",
      "CONCIERGE_NOTIFICATION_SENDER_FIREBASE_CREDENTIALS is missing",
    ]) {
      assert.ok(
        lines.slice(1).some((line) => line.trim().startsWith(name)),
        `${name}\n${ended.stderr}`,
      );
    }
    assert.equal(ended.stdout, "");
    assert.ok(!ended.stderr.includes("canary") && !ended.stderr.includes("70000"));
  });

  test("S-CFG-01 S-CFG-06 unfit for production: exit 78 by the variable's name, no port opened", async () => {
    await using occupied = await occupiedPort();
    const taken = String(occupied.port);
    const ports = { CONCIERGE_PUBLIC_PORT: taken, CONCIERGE_INTERNAL_PORT: "0" };
    const good: Record<string, string> = { ...environment.variables, ...ports };
    const stranger = createServiceKey("billing", "user", "backend");
    const cases: [changes: Record<string, string>, problem: RegExp][] = [
      [{ [DATABASE_URL]: "postgres://canary:canary@127.0.0.1/auth" }, /CONCIERGE_AUTH_DATABASE_URL/],
      [{ CONCIERGE_AUTH_SERVICE_KEYS: JSON.stringify({ keys: [stranger] }) }, /auth takes internal calls/],
      [{ CONCIERGE_PUBLIC_PORT: "50051", CONCIERGE_INTERNAL_PORT: "" }, /must not share a port/],
    ];
    const endings = await Promise.all(cases.map(([changes]) => runCommand(["serve", "auth"], { ...good, ...changes })));
    for (const [index, [, problem]] of cases.entries()) {
      const ended = endings[index]!;
      assert.equal(ended.code, ExitCode.config, `${problem} ${ended.stderr}`);
      assertPlain(ended);
      assert.match(ended.stderr, problem);
      assert.ok(!ended.stderr.includes("canary"), ended.stderr);
    }
    // The same configuration without a fault does try: that is what the cases above would have run into.
    const ended = await runCommand(["serve", "auth"], good);
    assert.equal(ended.code, ExitCode.unavailable);
    assert.equal(ended.stderr, `concierge: cannot listen on 127.0.0.1:${taken}: the port is in use\n`);
  });

  test("a database that is down: it lives, says so to operators only, and becomes ready by itself", async () => {
    const url = new URL(environment.variables[DATABASE_URL]!);
    await using proxy = await startFaultProxy({ host: url.hostname, port: Number(url.port) });
    proxy.cut();
    url.port = String(proxy.port);
    const canary = decodeURIComponent(url.password);
    await using command = startCommand(["serve", "auth"], {
      ...environment.variables,
      ...FREE_PORTS,
      [DATABASE_URL]: url.href,
      CONCIERGE_MODE: "production",
    });
    const { publicUrl, internalUrl } = await listening(command);
    const login = () => {
      const client = createClient(AuthService, createConnectTransport({ baseUrl: publicUrl, httpVersion: "1.1" }));
      const answer = client.login({ email: "ann@example.com", password: "a password of nobody" });
      return answer.then(
        () => undefined,
        (error) => ConnectError.from(error),
      );
    };
    for (const base of [publicUrl, internalUrl]) {
      assert.deepEqual(await get(`${base}/healthz`), { status: 200, body: { status: "alive" } });
    }
    assert.deepEqual(await get(`${publicUrl}/readyz`), { status: 503, body: { status: "not ready" } });
    assert.deepEqual(await get(`${internalUrl}/readyz`), {
      status: 503,
      body: { status: "not ready", missing: ["auth: waiting for the database"] },
    });
    const refused = await login();
    assert.equal(refused?.code, Code.Unavailable);
    assert.equal(reasonOf(refused), "UNAVAILABLE");

    await proxy.heal();
    await until("ready", async () => (await get(`${internalUrl}/readyz`)).status === 200);
    assert.deepEqual(await get(`${publicUrl}/readyz`), { status: 200, body: { status: "ready" } });
    assert.equal((await login())?.code, Code.Unauthenticated);

    command.kill("SIGTERM");
    const ended = await command.ended();
    assert.equal(ended.code, ExitCode.ok);
    assert.ok(!`${ended.stdout}${ended.stderr}`.includes(canary), "the password is in the output");
  });

  test("a database that will never do ends the process with 78: no migrations, a wrong password", async () => {
    await using empty = await testDatabase(["platform"]);
    const wrong = new URL(environment.variables[DATABASE_URL]!);
    wrong.password = "canary-canary-Qx7-Vw2-Zt9-Lk4";
    const cases: [url: string, problem: RegExp][] = [
      [
        empty.runtimeUrl,
        /auth: the database does not match.*\n +auth\/0000_init.sql: not applied; run `concierge migrate`/,
      ],
      [wrong.href, /auth: the database refuses the login \(SQLSTATE 28P01\)/],
    ];
    const endings = await Promise.all(
      cases.map(([url]) =>
        runCommand(["serve", "auth"], { ...environment.variables, ...FREE_PORTS, [DATABASE_URL]: url }),
      ),
    );
    for (const [index, [, problem]] of cases.entries()) {
      const ended = endings[index]!;
      assert.equal(ended.code, ExitCode.config, ended.stderr);
      assertPlain(ended);
      assert.match(ended.stderr, problem);
      assert.ok(!`${ended.stdout}${ended.stderr}`.includes("canary"), ended.stderr);
    }
  });

  test("R-DEP-03 R-DEP-04 SIGTERM with idle HTTP/2 clients ends it with 0, and nothing is left at its ports", async () => {
    const { command, publicUrl, internalUrl } = await serveAuth();
    await using _command = command;
    // Only with --with-parent does the end of its input mean anything.
    command.input.end();
    const sessions = [publicUrl, internalUrl].map((url) => http2.connect(url));
    const gone = Promise.all(sessions.map((session) => once(session, "close")));
    await Promise.all(sessions.map((session) => once(session, "remoteSettings")));
    const startedAt = performance.now();
    command.kill("SIGTERM");
    const ended = await command.ended();
    await gone;
    assert.equal(ended.code, ExitCode.ok);
    assert.ok(performance.now() - startedAt < 4_000, "an idle client held it");
    assert.match(ended.stdout, /"msg":"stopping".*\n(.*\n)*.*"msg":"stopped"/);
    await assert.rejects(fetch(`${publicUrl}/healthz`));
  });

  test("R-DEP-03 a second SIGTERM ends it at once, whatever still runs", async () => {
    const { command, publicUrl, internalUrl } = await serveAuth();
    await using _command = command;
    const session = http2.connect(publicUrl);
    session.on("error", () => {});
    // A call whose body never ends, and which is therefore still open when the drain begins.
    const call = session.request({
      ":method": "POST",
      ":path": "/concierge.auth.v1.AuthService/Login",
      "content-type": "application/json",
    });
    call.on("error", () => {});
    call.write("{");
    await until("the call is open", async () =>
      (await (await fetch(`${internalUrl}/metrics`)).text()).includes("\nrpc_server_calls_in_flight 1\n"),
    );
    const goingAway = once(session, "goaway");
    command.kill("SIGTERM");
    await goingAway;
    command.kill("SIGTERM");
    const ended = await command.ended();
    // A drain that comes to its end, however soon, ends the process with 0 and says so.
    assert.equal(ended.code, ExitCode.interrupted);
    assert.doesNotMatch(ended.stdout, /"msg":"stopped"/);
    session.destroy();
  });

  test("R-DEP-03 SIGTERM during the start, while it waits for its database, ends it with 0", async () => {
    const url = new URL(environment.variables[DATABASE_URL]!);
    await using proxy = await startFaultProxy({ host: url.hostname, port: Number(url.port) });
    proxy.hang();
    url.port = String(proxy.port);
    await using command = startCommand(["serve", "auth"], {
      ...environment.variables,
      ...FREE_PORTS,
      [DATABASE_URL]: url.href,
    });
    await listening(command);
    await until("it connects", () => proxy.connectionCount() > 0);
    const startedAt = performance.now();
    command.kill("SIGTERM");
    assert.equal((await command.ended()).code, ExitCode.ok);
    assert.ok(performance.now() - startedAt < 6_000);
  });

  test("--with-parent ends with the process that started it", async () => {
    const { command } = await serveAuth("--with-parent");
    await using _command = command;
    command.input.end();
    assert.equal((await command.ended()).code, ExitCode.ok);
  });

  test("R-DEP-03 SIGTERM during a migration leaves nothing half applied, and the next run completes it", async () => {
    const { adminUrl } = await testCluster();
    await using empty = await testDatabase(["platform"]);
    const env = { [DATABASE_URL]: empty.runtimeUrl, CONCIERGE_AUTH_DATABASE_OWNER_URL: empty.ownerUrl };
    const owner = connect(empty.ownerUrl, { applicationName: "test" });
    const admin = connect(adminUrl, { applicationName: "test" });
    await using closing = new AsyncDisposableStack();
    closing.defer(() => admin.end());
    closing.defer(() => owner.end());
    const tables = async () =>
      (await owner`select relname from pg_class where relnamespace = 'public'::regnamespace`).length;
    const before = await tables();

    // Reading the bookkeeping goes on, writing into it waits: so the runner stands inside its transaction.
    await owner`begin`;
    await owner`lock table concierge_migration in share mode`;
    await using command = startCommand(["migrate", "auth"], env);
    await until("the runner waits inside its migration", async () => {
      const waiting = await admin`
      select 1 from pg_stat_activity
      where datname = ${empty.name} and application_name = 'concierge-migrate' and wait_event_type = 'Lock'`;
      return waiting.length > 0;
    });
    command.kill("SIGTERM");
    await owner`commit`;
    const ended = await command.ended();
    assert.equal(ended.code, ExitCode.interrupted, ended.stderr);
    assert.equal(ended.stderr, "concierge: stopped before it was done\n");
    assert.equal(await tables(), before);

    const again = await runCommand(["migrate", "auth"], env);
    assert.equal(
      again.stdout,
      "auth: applied auth/0000_init.sql, auth/0001_ended_sessions.sql, auth/0002_accounts.sql, auth/0003_organizations.sql\n",
    );
    assert.ok((await tables()) > before);
  });

  test("output that is longer than a pipe holds arrives whole", async () => {
    const names = Array.from({ length: LONG_LIST }, (_, index) => `CONCIERGE_${"X".repeat(40)}_${index}`);
    // Read byte by byte, so that the pipe fills at once and is full when the command is done.
    const script = '"$0" "$1" serve greeter 2>&1 >/dev/null | dd bs=1 2>/dev/null';
    const unknown = Object.fromEntries(names.map((name) => [name, ""]));
    const child = spawn("sh", ["-c", script, process.execPath, MAIN_FILE], { env: { ...process.env, ...unknown } });
    const text = (await child.stdout.setEncoding("utf8").toArray()).join("");
    assert.ok(text.length > PIPE_BYTES, `${text.length} bytes`);
    for (const name of names) assert.ok(text.includes(`${name} is not a known variable`), name);
    assert.ok(text.endsWith("\n"));
  });

  test("a reader that leaves is no fault", async () => {
    // The command starts when its reader has gone: at a line of input, which comes when the reader's end is closed.
    const script = '(read -r _; "$0" "$1" config; echo "code $?" >&2) | (exec <&-; echo closed >&2)';
    const child = spawn("sh", ["-c", script, process.execPath, MAIN_FILE]);
    const [closed] = await once(child.stderr.setEncoding("utf8"), "data");
    assert.equal(closed, "closed\n");
    child.stdin.end("go\n");
    const [said] = await once(child.stderr, "data");
    assert.equal(said, "code 0\n");
  });
});
