/** A call that goes on from service to service: one deadline and one end for all of them, the database's included. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Sql } from "postgres";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserInternalService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { connect } from "../db/connection.ts";
import { Code } from "../errors.ts";
import { access } from "../services/access/service.ts";
import { auth } from "../services/auth/service.ts";
import { user } from "../services/user/service.ts";
import { testCluster } from "../testing/cluster.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { type HeaderLine, openHttp2, sendOverHttp2 } from "../testing/http.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, encodeMessage, httpRequestOf, type Wire } from "../testing/wire.ts";
import { createServiceKey } from "../token/key-making.ts";
import { messageDigest, SERVICE_TOKEN_HEADER, signServiceToken } from "../token/service-token.ts";
import { onward, scopeOf } from "./call.ts";

const DEADLINE_MS = 1_000;
/** Timers count whole milliseconds. */
const TIMER_MS = 1;
/** So much later a machine with much else to do may be; a deadline that is not kept is seconds late. */
const LATE_MS = 1_500;
const PASSED = { code: Code.DeadlineExceeded, message: "the deadline has passed", reason: "DEADLINE_EXCEEDED" };
const grpc = allWires.find(
  ({ protocol, encoding, http }) => protocol === "grpc" && encoding === "proto" && http === "2",
)!;
const timeout = (ms: number): HeaderLine => ["grpc-timeout", `${ms}m`];

const service = testService("HopService", {
  Pass: { input: EmptySchema, output: EmptySchema, access: { who: { case: "public", value: {} } } },
});
const pass = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Pass");

/** What one hop saw of a call. */
interface Seen {
  /** As the caller sent it. */
  header: string | null;
  /** Just before the next hop is called. */
  leftMs: number;
  signal: AbortSignal;
}

type Next = (context: HandlerContext) => Promise<unknown>;

/** Notes what it sees, and goes on. */
async function startHop(next: Next, fastPath: boolean): Promise<Edge & { calls: Seen[] }> {
  const calls: Seen[] = [];
  const implementation = {
    async pass(_: unknown, context: HandlerContext) {
      const { requestHeader, signal } = context;
      calls.push({ header: requestHeader.get("grpc-timeout"), leftMs: context.timeoutMs()!, signal });
      await next(context);
      return create(EmptySchema);
    },
  };
  const implementations = [{ desc: service, implementation: implementation as unknown as ServiceImpl<typeof service> }];
  return Object.assign(await startEdge({ implementations, fastPath }), { calls });
}

for (const fastPath of [true, false]) {
  describe(`three hops, ${fastPath ? "short way" : "long way"}`, () => {
    const opened = new AsyncDisposableStack();
    let hops: Awaited<ReturnType<typeof startHop>>[] = [];
    let last: Next = () => new Promise(() => {});

    before(async () => {
      const third = opened.use(await startHop((context) => last(context), fastPath));
      const second = opened.use(await startHop(onwardTo(third.url), fastPath));
      const first = opened.use(await startHop(onwardTo(second.url), fastPath));
      hops = [first, second, third];
    });

    after(() => opened.disposeAsync());

    function onwardTo(baseUrl: string): Next {
      const key = createServiceKey("caller", "callee", "service");
      const connection = opened.use(connectService({ baseUrl, key, clock: systemClock }));
      const client = connection.client(service) as unknown as { pass(input: object, options: object): Promise<object> };
      return (context) => client.pass({}, onward(scopeOf(context)));
    }

    test("R-NET-01 R-NET-02 the deadline is handed on, not begun anew, and is kept at every hop", async () => {
      // A first call opens the connections, so that the others spend their time at the last hop.
      last = async () => {};
      const { answer } = await callWire(grpc, hops[0]!.url, { method: pass, headers: [timeout(60_000)] });
      assert.ok(answer);
      last = () => new Promise(() => {});
      for (const hop of hops) hop.calls.length = hop.logLines.length = 0;
      const CALLS = 4;
      const call = async () => {
        const startedAt = performance.now();
        const { code, message, reason } = await callWire(grpc, hops[0]!.url, {
          method: pass,
          headers: [timeout(DEADLINE_MS)],
        });
        const tookMs = performance.now() - startedAt;
        assert.deepEqual({ code, message, reason }, PASSED);
        assert.ok(tookMs >= DEADLINE_MS - TIMER_MS && tookMs < DEADLINE_MS + LATE_MS, `${tookMs} ms`);
      };
      await Promise.all(Array.from({ length: CALLS }, call));
      for (const hop of hops) {
        await until("every hop's handler was told", () => hop.calls.every(({ signal }) => signal.aborted));
        // On a machine with much else to do, a call may have ended before it came so far.
        assert.ok(hop.calls.length > 0 && hop.calls.length <= CALLS);
        await until("every hop's log line", () => hop.logLines.length >= hop.calls.length);
        // The caller's timer and the callee's run to the same moment; whichever is first, the callee's work is over.
        for (const { code } of hop.logLines) assert.match(String(code), /^(?:DeadlineExceeded|Canceled)$/);
      }
      assert.ok(hops[0]!.logLines.every(({ code }) => code === "DeadlineExceeded"));
      const most = (values: number[]) => Math.max(...values);
      for (const [index, hop] of hops.slice(1).entries()) {
        const before = hops[index]!.calls;
        const granted = hop.calls.map(({ header }) => Number(/^(\d+)m$/.exec(header!)![1]));
        assert.ok(most(granted) <= most(before.map(({ leftMs }) => leftMs)), `hop ${index + 2} got ${granted}`);
      }
    });

    test("R-NET-02 a hop that took its time leaves less to the next", async () => {
      for (const hop of hops) hop.calls.length = 0;
      last = async () => {};
      const { answer } = await callWire(grpc, hops[0]!.url, { method: pass, headers: [timeout(60_000)] });
      assert.ok(answer);
      const headers = hops.map(({ calls: [seen] }) => Number(/^(\d+)m$/.exec(seen!.header!)![1]));
      const left = hops.map(({ calls: [seen] }) => seen!.leftMs);
      assert.deepEqual([headers[0], headers.toSorted((a, b) => b - a)], [60_000, headers]);
      assert.ok(headers[1]! <= left[0]! && headers[2]! <= left[1]!, `${headers} ${left}`);
    });

    const resets = ["NGHTTP2_CANCEL", "NGHTTP2_INTERNAL_ERROR", "NGHTTP2_ENHANCE_YOUR_CALM"] as const;
    for (const code of resets) {
      test(`R-NET-03 a client that leaves with ${code} is told to every hop at once, and is no fault`, async () => {
        for (const hop of hops) hop.calls.length = hop.logLines.length = 0;
        last = () => new Promise(() => {});
        const session = openHttp2(hops[0]!.url);
        const { path, headers, body } = httpRequestOf(grpc, { method: pass });
        const stream = session.request({ ":method": "POST", ":path": path, ...Object.fromEntries(headers) });
        stream.on("error", () => {});
        stream.end(body);
        const reached = await until("the last hop", () => hops[2]!.calls[0]);
        const startedAt = performance.now();
        const told = once(reached.signal, "abort");
        stream.close(http2.constants[code]);
        await told;
        assert.ok(performance.now() - startedAt < LATE_MS);
        for (const { calls, logLines } of hops) {
          assert.ok(calls[0]!.signal.aborted);
          const line = await until("the log line", () => logLines[0]);
          assert.deepEqual([line.code, line.reason, line.level], ["Canceled", "CANCELED", "info"]);
        }
        session.close();
      });
    }
  });
}

test("R-NET-03 a client of HTTP/1.1 that leaves ends its call, too", async () => {
  await using hop = await startHop(() => new Promise(() => {}), true);
  const leaving = new AbortController();
  const { path } = httpRequestOf({ ...grpc, protocol: "connect", http: "1.1" }, { method: pass });
  const headers = { "content-type": "application/json" };
  const call = fetch(`${hop.url}${path}`, { method: "POST", headers, body: "{}", signal: leaving.signal });
  const { signal } = await until("the call", () => hop.calls[0]);
  const told = once(signal, "abort");
  leaving.abort();
  await Promise.all([told, assert.rejects(call, { name: "AbortError" })]);
});

describe("hops with databases", () => {
  let system: TestSystem;
  let owner: Sql;
  /** Sees what others run, which owners do not. */
  let admin: Sql;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, user] });
    owner = connect(system.database("auth").ownerUrl, { applicationName: "hops.test" });
    admin = connect((await testCluster()).adminUrl, { applicationName: "hops.test" });
  });

  after(async () => {
    await Promise.all([owner.end(), admin.end()]);
    await system[Symbol.asyncDispose]();
  });

  /** Keeps everybody else from a table of auth's until it is disposed of. */
  async function locked(table: string): Promise<AsyncDisposable> {
    const blocker = connect(system.database("auth").ownerUrl, { applicationName: "hops.test" });
    await blocker`begin`;
    await blocker.unsafe(`lock table ${table} in access exclusive mode`);
    return { [Symbol.asyncDispose]: () => blocker.end() };
  }

  /** What auth runs in its database just now. */
  const running = async () =>
    admin<{ query: string; waits: boolean }[]>`
      select query, wait_event_type = 'Lock' as waits from pg_stat_activity
      where datname = ${system.database("auth").name} and application_name = 'concierge auth' and state <> 'idle'`;
  const waitsInDatabase = () =>
    until("auth waits for the lock", async () => (await running()).some(({ waits }) => waits));
  const nothingRuns = () => until("auth's query is gone", async () => (await running()).length === 0);

  test("R-NET-01 user, access and auth behind a locked table: DEADLINE_EXCEEDED in time, and the query is cut", async () => {
    // Nobody knows this one, so user asks access, and access asks auth.
    const userId = crypto.randomUUID();
    const method = UserInternalService.method.getUser;
    const procedure = `/${UserInternalService.typeName}/${method.name}`;
    const digest = messageDigest(encodeMessage(grpc, method.input, { userId }));
    const token = signServiceToken(system.keyOf("backend", "user"), procedure, digest, system.clock);
    // A first call opens the connections.
    const client = system.asService(UserInternalService, "backend", "user");
    await assert.rejects(client.getUser({ userId: crypto.randomUUID() }), { code: Code.NotFound });
    system.logLines.length = 0;
    await using lock = await locked("accounts");
    const startedAt = performance.now();
    const call = callWire(grpc, system.internalUrl, {
      method,
      message: { userId },
      headers: [timeout(DEADLINE_MS), [SERVICE_TOKEN_HEADER, token]],
    });
    await waitsInDatabase();
    const { code, message, reason } = await call;
    const tookMs = performance.now() - startedAt;
    // Before the lock is given back, and long before the database's own limits (2 s for a lock, 5 s for a statement).
    await nothingRuns();
    const goneMs = performance.now() - startedAt;
    await lock[Symbol.asyncDispose]();
    assert.deepEqual({ code, message, reason }, PASSED);
    assert.ok(tookMs >= DEADLINE_MS - TIMER_MS && tookMs < DEADLINE_MS + LATE_MS, `${tookMs} ms`);
    assert.ok(goneMs < DEADLINE_MS + LATE_MS, `the query was gone after ${goneMs} ms`);
    const ended = ["GetUser", "BatchGetUserRoles", "GetAccount"];
    const lines = await until("every hop's log line", () => {
      const found = system.logLines.filter(({ procedure }) => ended.includes(String(procedure).split("/")[2]!));
      return found.length === 3 && found;
    });
    for (const { code, level } of lines) {
      assert.match(String(code), /^(?:DeadlineExceeded|Canceled)$/);
      assert.equal(level, "info");
    }
    const known = await system.newUser();
    assert.ok((await client.getUser({ userId: known.userId })).user);
  });

  /** Registers somebody and leaves when `moment` has come. */
  async function registerAndLeave(email: string, moment: () => Promise<unknown>): Promise<void> {
    const session = openHttp2(system.publicUrl);
    const request = httpRequestOf({ ...grpc } satisfies Wire, {
      method: AuthService.method.registerUser,
      message: { email, password: "a long enough password", firstName: "Ann", lastName: "Lee", locale: "en" },
    });
    const answer = sendOverHttp2(session, new URL(system.publicUrl).host, request);
    const left = assert.rejects(answer);
    await moment();
    session.destroy();
    await left;
  }

  const stored = async (email: string) => {
    const [counts] = await owner<{ accounts: number; credentials: number; events: number }[]>`
      select count(a)::int as accounts, count(c)::int as credentials,
        (select count(*)::int from feed_outbox where position(${email}::bytea in payload) > 0) as events
      from accounts a left join credentials c on c.account_id = a.id where a.email_key = ${email}`;
    return { ...counts };
  };

  test("R-NET-03 a client that leaves while its transaction waits: nothing of it is stored", async () => {
    const email = "left-early@example.com";
    {
      await using _lock = await locked("credentials");
      await registerAndLeave(email, waitsInDatabase);
      await nothingRuns();
    }
    assert.deepEqual(await stored(email), { accounts: 0, credentials: 0, events: 0 });
  });

  test("R-NET-03 a client that leaves while its transaction commits: all of it is stored", async () => {
    const email = "left-late@example.com";
    await owner.unsafe(`
      create function wait_at_commit() returns trigger language plpgsql set lock_timeout = 0 as
        $$ begin perform pg_advisory_xact_lock(4711); return null; end $$;
      create constraint trigger wait_at_commit after insert on accounts deferrable initially deferred
        for each row execute function wait_at_commit()`);
    await owner`select pg_advisory_lock(4711)`;
    await registerAndLeave(email, waitsInDatabase);
    const line = await until("the call's log line", () =>
      system.logLines.find(({ procedure, code }) => String(procedure).endsWith("/RegisterUser") && code === "Canceled"),
    );
    assert.equal(line.reason, "CANCELED");
    await owner`select pg_advisory_unlock(4711)`;
    await nothingRuns();
    await owner.unsafe("drop trigger wait_at_commit on accounts; drop function wait_at_commit()");
    assert.deepEqual(await stored(email), { accounts: 1, credentials: 1, events: 1 });
  });
});
