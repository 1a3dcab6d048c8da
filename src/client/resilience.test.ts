/** Calls through breaker, retries and deadlines to a real server that fails as it is told. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { inspect } from "node:util";
import type { HandlerContext } from "@connectrpc/connect";
import { type Clock, systemClock } from "../clock.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import { createTestClock } from "../testing/clock.ts";
import type { Edge } from "../testing/edge.ts";
import { answer, handler, service, startFast } from "../testing/fast-service.ts";
import { until } from "../testing/until.ts";
import { createServiceKey } from "../token/key-making.ts";
import { PRESETS, type PresetName, type ResilienceOptions } from "./resilience.ts";
import { connectService, type ServiceConnection } from "./service-client.ts";

const key = createServiceKey("caller", "callee", "service");
const silent = { info() {}, warn() {}, error() {} };
/** Retries without a wait worth mentioning. */
const quick = { ...PRESETS.default, retry: { ...PRESETS.default.retry, firstMs: 1, maxMs: 2 } };
const neverOpen = { failures: Number.POSITIVE_INFINITY, openMs: 0 };
const name = "Ann";

let edge: Edge;
/** What the server has seen since the test began. */
let seen: HandlerContext[];
let opened: DisposableStack;

before(async () => {
  edge = await startFast();
});
after(() => edge[Symbol.asyncDispose]());
beforeEach(() => {
  opened = new DisposableStack();
  seen = [];
});
afterEach(() => opened.dispose());

/** The first answers of the server; the last of them again and again. */
function script(...answers: (Error | typeof answer)[]): void {
  handler.act = (input, context) => {
    const next = answers[Math.min(seen.push(context), answers.length) - 1]!;
    if (next instanceof Error) throw next;
    return next(input, context);
  };
}

function connect(options: Partial<ResilienceOptions> = {}, { clock = systemClock, baseUrl = edge.url } = {}) {
  const resilience = { ...quick, ...options, name: "fast", log: silent };
  const connection: ServiceConnection = opened.use(connectService({ baseUrl, key, clock: clock as Clock, resilience }));
  // `greet` is free of side effects, and nothing is known of `large`.
  return { connection, client: connection.client(service) as unknown as FastClient };
}

type Unary = (
  request: { name: string },
  options?: { timeoutMs?: number; signal?: AbortSignal },
) => Promise<{ message: string }>;
interface FastClient {
  greet: Unary;
  large: Unary;
  stream(request: { name: string }): AsyncIterable<{ message: string }>;
}

const down = () => fail(Code.Unavailable, "UNAVAILABLE", "down");

/** "answered", or code and reason. */
async function endOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "answered",
    (error: { code: Code }) => `${Code[error.code]} ${reasonOf(error) ?? ""}`.trim(),
  );
}

describe("turns", () => {
  test("few calls are under way at once; who waits too long, or leaves, says nothing of the peer and keeps no turn", async () => {
    const { connection, client } = connect({
      retry: { ...quick.retry, attempts: 1 },
      breaker: { failures: 1, openMs: 60_000 },
    });
    const held = Promise.withResolvers<void>();
    handler.act = async (input, context) => {
      seen.push(context);
      await held.promise;
      return answer(input, context);
    };
    const first = Array.from({ length: 40 }, () => endOf(client.greet({ name })));
    await until("as many as may are under way", () => seen.length === 32);
    const leaving = new AbortController();
    const others = [client.greet({ name }, { timeoutMs: 20 }), client.greet({ name }, { signal: leaving.signal })].map(
      endOf,
    );
    leaving.abort();
    assert.deepEqual(await Promise.all(others), ["DeadlineExceeded DEADLINE_EXCEEDED", "Canceled"]);
    assert.deepEqual([seen.length, connection.breaker], [32, "closed"]);
    held.resolve();
    assert.deepEqual(new Set(await Promise.all(first)), new Set(["answered"]));
    const later = Array.from({ length: 64 }, () => endOf(client.greet({ name })));
    assert.deepEqual(new Set(await Promise.all(later)), new Set(["answered"]));
  });
});

describe("retries", () => {
  test("each try has a service token of its own and is told what it has left", async () => {
    script(down(), fail(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "too late"), answer);
    assert.equal((await connect().client.greet({ name })).message, name);
    assert.equal(new Set(seen.map(({ requestHeader }) => requestHeader.get("service-token"))).size, 3);
    const [first, second, last] = seen.map(({ requestHeader }) =>
      Number.parseInt(requestHeader.get("grpc-timeout")!, 10),
    );
    assert.deepEqual([first, second], [2_000, 2_000]);
    assert.ok(last! > 2_000 && last! < 5_000, `${last} ms`);
  });

  for (const [code, reason] of [
    [Code.Unauthenticated, "UNAUTHENTICATED"],
    [Code.PermissionDenied, "CALLER_NOT_ALLOWED"],
    [Code.InvalidArgument, "INVALID_REQUEST"],
    [Code.NotFound, "USER_NOT_FOUND"],
    [Code.ResourceExhausted, "TOO_MANY_NOTIFICATIONS"],
    [Code.ResourceExhausted, "MESSAGE_TOO_LARGE"],
  ] as const) {
    test(`S-SDK-04 ${reason} is an answer: it is not tried again, and the peer is there`, async () => {
      const { connection, client } = connect({ retry: { ...quick.retry, attempts: 1 } });
      const refused = fail(code, reason, "no");
      // Never five failures in a row.
      script(down(), down(), down(), down(), refused, down(), down(), down(), down(), refused);
      const ends = [];
      for (let call = 0; call < 16; call++) ends.push(await endOf(client.greet({ name })));
      assert.equal(ends.filter((end) => end === `${Code[code]} ${reason}`).length, 8);
      assert.equal(connection.breaker, "closed");
      script(refused);
      seen.length = 0;
      assert.equal(await endOf(connect().client.greet({ name })), `${Code[code]} ${reason}`);
      assert.equal(seen.length, 1);
    });
  }

  test("the others count and open the breaker, whatever the method", async () => {
    for (const error of [
      down(),
      fail(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "too late"),
      fail(Code.Internal, "INTERNAL", "broken"),
      fail(Code.Unknown, "INTERNAL", "broken"),
      fail(Code.ResourceExhausted, "OVERLOADED", "busy"),
    ]) {
      const { connection, client } = connect();
      script(error);
      for (let call = 0; call < 5; call++) await endOf(client.large({ name }));
      assert.equal(connection.breaker, "open", error.message);
      assert.equal(await endOf(client.greet({ name })), "Unavailable CIRCUIT_OPEN");
    }
  });

  test("R-NET-08 a method that may have effects is never made twice, whatever it ends with", async () => {
    const { client } = connect({ breaker: neverOpen });
    const errors = [
      down(),
      fail(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "late"),
      fail(Code.Internal, "INTERNAL", ""),
    ];
    for (const error of errors) {
      script(error);
      await endOf(client.large({ name }));
    }
    script(fail(Code.ResourceExhausted, "OVERLOADED", "busy", { retryAfterMs: 1 }));
    await endOf(client.large({ name }));
    assert.equal(seen.length, errors.length + 1);
  });

  test("R-NET-08 a peer that fails every call gets at most a tenth more of them, even without a breaker", async () => {
    const { client } = connect({ breaker: neverOpen });
    script(down());
    const calls = 400;
    for (let call = 0; call < calls; call++)
      assert.equal(await endOf(client.greet({ name })), "Unavailable UNAVAILABLE");
    const retries = seen.length - calls;
    // Ten were saved up.
    assert.ok(retries > calls * 0.09 && retries <= calls * 0.1 + 10, `${retries} retries`);
  });

  test("R-NET-08 with a breaker it is left alone but for a probe from time to time", async () => {
    const clock = createTestClock();
    const { client } = connect({}, { clock });
    script(down());
    // Thirty seconds of a hundred calls a second.
    for (let call = 0; call < 3_000; call++) {
      await endOf(client.greet({ name }));
      clock.advance(10);
    }
    // Five calls, then a probe every five seconds, each tried three times at most.
    assert.ok(seen.length >= 5 + 5 && seen.length <= (5 + 6) * 3, `${seen.length} requests`);
  });

  test("who is told when to come again comes then, and nobody tries again who is told nothing", async () => {
    const busy = (retryAfterMs?: number) => fail(Code.ResourceExhausted, "OVERLOADED", "busy", { retryAfterMs });
    script(busy(80), answer);
    const startedAt = performance.now();
    assert.equal(await endOf(connect().client.greet({ name })), "answered");
    assert.ok(performance.now() - startedAt >= 79);
    script(busy(), answer);
    seen.length = 0;
    assert.equal(await endOf(connect().client.greet({ name })), "ResourceExhausted OVERLOADED");
    script(fail(Code.Unavailable, "DRAINING", "later", { retryAfterMs: 10_000 }), answer);
    seen.length = 0;
    // There is no point in waiting for longer than the call may take.
    assert.equal(await endOf(connect().client.greet({ name })), "Unavailable DRAINING");
    assert.equal(seen.length, 1);
  });
});

describe("deadlines", () => {
  test("R-SDK-03 a peer that is silent costs no more than the caller's deadline, tries included", async () => {
    const leave = Promise.withResolvers<void>();
    script(() => leave.promise);
    const { client } = connect({ attemptTimeoutMs: 600 });
    const startedAt = performance.now();
    assert.equal(await endOf(client.greet({ name }, { timeoutMs: 2_500 })), "Unavailable DEPENDENCY_UNAVAILABLE");
    const tookMs = performance.now() - startedAt;
    assert.ok(tookMs >= 2_000 && tookMs < 4_000, `${tookMs} ms`);
    assert.equal(seen.length, 3);
    leave.resolve();
  });

  test("a try that hangs is followed by one that does not, within the same call", async () => {
    const leave = Promise.withResolvers<void>();
    script(() => leave.promise, answer);
    assert.equal(await endOf(connect({ attemptTimeoutMs: 60 }).client.greet({ name })), "answered");
    leave.resolve();
  });

  test("a caller who leaves is told at once, and counts for nothing: neither a failure nor an answer", async () => {
    const leave = Promise.withResolvers<void>();
    const retry = { ...quick.retry, firstMs: 20_000, maxMs: 20_000 };
    const { connection, client } = connect({ breaker: { failures: 2, openMs: 5_000 }, timeoutMs: 60_000, retry });
    script(down());
    await endOf(client.large({ name }));
    for (const act of [() => leave.promise, down()]) {
      seen.length = 0;
      script(act);
      const leaving = new AbortController();
      const call = endOf(client.greet({ name }, { signal: leaving.signal }));
      await until("the call arrived", () => seen.length === 1);
      // In the try, and in the wait that follows one.
      await delay(20);
      const leftAt = performance.now();
      leaving.abort();
      assert.equal(await call, "Canceled");
      assert.ok(performance.now() - leftAt < 1_900);
    }
    assert.equal(connection.breaker, "closed");
    script(down());
    await endOf(client.large({ name }));
    assert.equal(connection.breaker, "open");
    leave.resolve();
  });
});

describe("the breaker of a connection", () => {
  for (const preset of Object.keys(PRESETS) as PresetName[]) {
    const { failures, openMs } = PRESETS[preset].breaker;
    test(`${preset}: ${failures} failures open it for ${openMs / 1_000} s`, async () => {
      const clock = createTestClock();
      const { connection, client } = connect(PRESETS[preset], { clock });
      script(down());
      for (let call = 0; call < failures; call++) {
        assert.equal(connection.breaker, "closed");
        await endOf(client.large({ name }));
      }
      assert.equal(connection.breaker, "open");
      clock.advance(openMs - 1);
      assert.equal(await endOf(client.large({ name })), "Unavailable CIRCUIT_OPEN");
      clock.advance(1);
      script(answer);
      assert.equal(await endOf(client.large({ name })), "answered");
      assert.equal(connection.breaker, "closed");
    });
  }

  test("refuses streams while it is open, and does not count them", async () => {
    const { connection, client } = connect({ breaker: { failures: 1, openMs: 5_000 } });
    const read = async () => {
      for await (const _ of client.stream({ name }));
    };
    assert.equal(await endOf(read()), "answered");
    script(down());
    await endOf(client.large({ name }));
    assert.equal(connection.breaker, "open");
    assert.equal(await endOf(read()), "Unavailable CIRCUIT_OPEN");
  });

  test("S-SDK-09 neither a connection nor what it throws shows a key or a token", async () => {
    const { connection, client } = connect({ breaker: { failures: 1, openMs: 5_000 } });
    script(down());
    const errors = [];
    for (let call = 0; call < 2; call++) errors.push(await client.large({ name }).catch((error) => error));
    const shown = `${inspect([connection, client, errors], { depth: 12, showHidden: true })}${JSON.stringify(connection)}`;
    assert.ok(!shown.includes(key.secret));
    assert.doesNotMatch(shown, /eyJ/);
  });
});
