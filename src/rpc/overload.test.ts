/** What is refused when there is too much of it: calls of one address in a time, and calls that are worked on at once. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { beforeEach, describe, test } from "node:test";
import { durationMs, EmptySchema } from "@bufbuild/protobuf/wkt";
import { type CallOptions, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { allWays, openClient, type Way, wayName } from "../testing/clients.ts";
import { createTestClock } from "../testing/clock.ts";
import { methodOf, type TestMethod, testService } from "../testing/contract.ts";
import { type Edge, type EdgeOptions, startEdge } from "../testing/edge.ts";
import type { HeaderLine } from "../testing/http.ts";
import { startPublicServer } from "../testing/public-server.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";
import { createRateLimit } from "./overload.ts";

function retryAfterMs(thrown: unknown): number | undefined {
  const delay = ConnectError.from(thrown).findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay && durationMs(delay);
}

describe("the limit of calls per second", () => {
  test("lets a burst of two seconds through, then one by one, and says when", () => {
    for (const perSecond of [1, 10, 1_000]) {
      const clock = createTestClock();
      const limit = createRateLimit(perSecond, clock);
      for (let call = 0; call < 2 * perSecond; call++) assert.equal(limit("192.0.2.1"), undefined);
      for (let call = 0; call < 3; call++) {
        const refusal = limit("192.0.2.1");
        assert.deepEqual([refusal?.code, reasonOf(refusal)], [Code.ResourceExhausted, "RATE_LIMITED"]);
        assert.equal(retryAfterMs(refusal), 1_000 / perSecond);
      }
      clock.advance(retryAfterMs(limit("192.0.2.1"))!);
      assert.equal(limit("192.0.2.1"), undefined);
      assert.ok(limit("192.0.2.1"));
    }
  });

  test("does not save up more than a burst", () => {
    const clock = createTestClock();
    const limit = createRateLimit(5, clock);
    limit("192.0.2.1");
    clock.advance(3_600_000);
    const answers = Array.from({ length: 12 }, () => limit("192.0.2.1"));
    assert.equal(answers.filter((refusal) => refusal === undefined).length, 10);
  });

  test("counts each address alone, and an IPv6 network of 64 bits as one", () => {
    const limit = createRateLimit(1, createTestClock());
    const used: [burst: string[], next: string][] = [
      [["192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.1"],
      [["192.0.2.2", "192.0.2.2"], "::ffff:192.0.2.2"],
      [["2001:db8::1", "2001:db8::2"], "2001:db8:0:0:ffff::3"],
      [["2001:db8:0:1::1", "2001:db8:0:1::1"], "2001:db8:0:1::2"],
    ];
    for (const [burst, next] of used) {
      for (const address of burst) assert.equal(limit(address), undefined, address);
      assert.ok(limit(next), next);
    }
  });

  test("0 is no limit", () => {
    const limit = createRateLimit(0, createTestClock());
    for (let call = 0; call < 10_000; call++) assert.equal(limit("192.0.2.1"), undefined);
  });

  test("remembers 100,000 addresses and forgets the one that was quiet for longest", () => {
    const limit = createRateLimit(1, createTestClock());
    const isFull = (address: string) => limit(address) !== undefined;
    for (const address of ["first", "busy"]) while (!isFull(address));
    for (let index = 0; index < 100_000; index++) {
      limit(`192.0.2.1.${index}`);
      if (index === 50_000) assert.ok(isFull("busy"));
    }
    assert.ok(isFull("busy"));
    assert.equal(limit("first"), undefined);
  });
});

type Act = (context: HandlerContext) => unknown;
let act: Act = () => ({});
let handlerRuns = 0;
beforeEach(() => {
  act = () => ({});
  handlerRuns = 0;
});
const types = { input: EmptySchema, output: EmptySchema };
const open: Pick<TestMethod, "access"> = { access: { who: { case: "public", value: {} } } };
const service = testService("LoadService", {
  Open: { ...types, ...open },
  Mine: { ...types, access: { who: { case: "user", value: {} } } },
  Watch: { ...types, ...open, stream: "server" },
});
const openMethod = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Open");
const mineMethod = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Mine");
const run = (_: unknown, context: HandlerContext) => {
  handlerRuns++;
  return act(context);
};
const implementation = {
  open: run,
  mine: run,
  async *watch(_: unknown, { signal }: HandlerContext) {
    handlerRuns++;
    yield {};
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  },
} as unknown as ServiceImpl<typeof service>;
const start = (options: Partial<EdgeOptions> = {}) =>
  startEdge({ implementations: [{ desc: service, implementation }], ...options });

interface LoadClient {
  open(input: object, options?: CallOptions): Promise<unknown>;
  mine(input: object, options?: CallOptions): Promise<unknown>;
  watch(input: object, options?: CallOptions): AsyncIterable<unknown>;
}

describe("an address that calls too often", () => {
  for (const fastPath of [true, false]) {
    test(`is RESOURCE_EXHAUSTED / RATE_LIMITED over every wire, body unread (fast path ${fastPath})`, async () => {
      const clock = createTestClock();
      await using edge = await start({ clock, requestsPerSecond: 1, fastPath });
      for (const wire of allWires) {
        clock.advance(3_600_000);
        const call = () => callWire(wire, edge.url, { method: openMethod });
        assert.deepEqual([(await call()).code, (await call()).code], [undefined, undefined], wireName(wire));
        const { status, code, reason, message } = await call();
        assert.deepEqual([code, reason], [Code.ResourceExhausted, "RATE_LIMITED"], wireName(wire));
        assert.equal(message, "too many calls from this address");
        assert.equal(status, wire.protocol === "connect" ? 429 : 200);
        assert.equal(edge.seen.at(-1)!.bodyRead, false, wireName(wire));
        clock.advance(1_000);
        assert.equal((await call()).code, undefined, wireName(wire));
      }
      assert.equal(handlerRuns, 3 * allWires.length);
      await until("all are counted", async () => {
        const text = await edge.metrics.text();
        return text.includes(`rpc_server_refused_total{reason="rate_limited"} ${allWires.length}`);
      });
    });
  }

  test("is told when to try again", async () => {
    const clock = createTestClock();
    await using edge = await start({ clock, requestsPerSecond: 1 });
    for (const way of allWays) {
      clock.advance(3_600_000);
      using opened = openClient<LoadClient>(service, way, edge.url);
      const calls = Array.from({ length: 3 }, () => opened.client.open({}));
      const refused = (await Promise.allSettled(calls)).filter(({ status }) => status === "rejected");
      assert.equal(refused.length, 1, wayName(way));
      assert.equal(retryAfterMs((refused[0] as PromiseRejectedResult).reason), 1_000, wayName(way));
    }
  });

  test("is refused on paths that are not there, too, and before anybody looks at its token", async () => {
    const clock = createTestClock();
    await using edge = await start({ clock, requestsPerSecond: 1 });
    for (const wire of allWires) {
      for (const [path, code] of [
        [`/${service.typeName}/Nope`, Code.Unimplemented],
        [`/${service.typeName}/Mine`, Code.Unauthenticated],
      ] as const) {
        clock.advance(3_600_000);
        const codes: (Code | undefined)[] = [];
        for (let call = 0; call < 3; call++) {
          codes.push((await callWire(wire, edge.url, { method: openMethod, path })).code);
        }
        assert.deepEqual(codes, [code, code, Code.ResourceExhausted], `${wireName(wire)} ${path}`);
      }
    }
  });

  test("may still ask for the probes", async () => {
    await using server = await startPublicServer({
      services: [{ name: "load", services: [service] }],
      implement: () => [{ desc: service, implementation }],
      variables: { CONCIERGE_REQUESTS_PER_SECOND: "1" },
      log: createLogger({ level: "fatal", mode: "development", destination: { write: () => {} } }),
    });
    const wire = allWires[0]!;
    await until("it is refused", async () => {
      const { reason } = await callWire(wire, server.publicUrl, { method: openMethod });
      return reason === "RATE_LIMITED";
    });
    for (let round = 0; round < 5; round++) {
      for (const path of ["/healthz", "/readyz"]) {
        const response = await fetch(`${server.publicUrl}${path}`);
        assert.equal(response.status, 200);
        await response.arrayBuffer();
      }
    }
    // The internal listener has no such limit: its callers are known.
    const answers = Array.from({ length: 5 }, () => callWire(wire, server.server.internalUrl, { method: openMethod }));
    for (const { reason } of await Promise.all(answers)) assert.notEqual(reason, "RATE_LIMITED");
  });
});

const PLACES = 2;

/** Sees to it that every place can be taken, and no more. */
async function assertAllFree(edge: Edge, way: Way, what: string): Promise<void> {
  using opened = openClient<LoadClient>(service, way, edge.url);
  const gate = Promise.withResolvers<object>();
  const previous = act;
  act = () => gate.promise;
  const before = handlerRuns;
  const holders = Array.from({ length: PLACES }, () => opened.client.open({}));
  const settled = Promise.all(holders);
  settled.catch(() => {});
  await Promise.race([settled, until(`${what}: all places are free`, () => handlerRuns === before + PLACES)]);
  await assert.rejects(opened.client.open({}), (error) => {
    assert.deepEqual([ConnectError.from(error).code, reasonOf(error)], [Code.Unavailable, "OVERLOADED"], what);
    assert.equal(retryAfterMs(error), 1_000);
    return true;
  });
  gate.resolve({});
  await settled;
  act = previous;
}

describe("a listener with more to do than it takes on", () => {
  const ways = allWays.flatMap((way) => [true, false].map((fastPath) => ({ way, fastPath })));
  const endings: Record<string, { act: Act; headers?: (way: Way) => HeaderLine[]; leaves?: boolean }> = {
    "they are answered": { act: () => ({}) },
    "they are answered later": { act: () => new Promise((resolve) => setImmediate(resolve, {})) },
    "they fail": {
      act: () => {
        throw fail(Code.NotFound, "NOT_FOUND", "there is none");
      },
    },
    "a fault ends them": { act: () => Promise.reject(new Error("a fault")) },
    "their answers cannot be encoded": { act: () => ({ $typeName: "google.protobuf.Struct" }) },
    "their clients leave": { act: () => new Promise(() => {}), leaves: true },
    "their deadlines pass": {
      act: () => new Promise(() => {}),
      headers: ({ protocol }) => [protocol === "connect" ? ["connect-timeout-ms", "50"] : ["grpc-timeout", "50m"]],
    },
  };
  for (const { way, fastPath } of ways) {
    test(`refuses one call too many as UNAVAILABLE / OVERLOADED, until others end (${wayName(way)}, fast path ${fastPath})`, async () => {
      await using edge = await start({ limits: { callsInFlight: PLACES }, fastPath });
      await assertAllFree(edge, way, "at first");
      for (const [what, ending] of Object.entries(endings)) {
        act = ending.act;
        using opened = openClient<LoadClient>(service, way, edge.url, ending.headers?.(way) ?? []);
        for (let round = 0; round < 2; round++) {
          const leaving = new AbortController();
          const before = handlerRuns;
          const calls = Array.from({ length: PLACES }, () => opened.client.open({}, { signal: leaving.signal }));
          const over = Promise.allSettled(calls);
          if (ending.leaves) {
            await until("they run", () => handlerRuns === before + PLACES);
            leaving.abort();
          }
          await over;
          await until("they are over", async () => (await inFlight(edge)) === 0);
        }
        await assertAllFree(edge, way, `after ${what}`);
      }
    });
  }

  test("does not count streams, nor calls that it refuses", async () => {
    await using edge = await start({ limits: { callsInFlight: PLACES } });
    for (const way of allWays) {
      handlerRuns = 0;
      using opened = openClient<LoadClient>(service, way, edge.url);
      const leaving = new AbortController();
      const streams = Array.from({ length: 2 * PLACES }, async () => {
        for await (const _ of opened.client.watch({}, { signal: leaving.signal }));
      });
      const over = Promise.allSettled(streams);
      await until("the streams are open", () => handlerRuns === 2 * PLACES);
      await assertAllFree(edge, way, "beside streams");
      for (let call = 0; call < PLACES; call++) {
        await assert.rejects(opened.client.mine({}), (error) => reasonOf(error) === "UNAUTHENTICATED");
      }
      await assertAllFree(edge, way, "after refusals");
      leaving.abort();
      await over;
    }
  });

  test("one address gets no more than its share, and a body that is never sent holds one of its places", async () => {
    const edge = await start({ limits: { callsInFlight: 100, callsPerAddress: PLACES } });
    await using _edge = edge;
    const session = http2.connect(edge.url);
    await using _session = { [Symbol.asyncDispose]: async () => session.destroy() };
    const path = `/${openMethod.parent.typeName}/${openMethod.name}`;
    const begun = Array.from({ length: PLACES }, () =>
      session.request({ ":method": "POST", ":path": path, "content-type": "application/proto" }).on("error", () => {}),
    );
    await until("they have begun", async () => (await inFlight(edge)) === PLACES);
    for (const wire of allWires) {
      const { code, reason } = await callWire(wire, edge.url, { method: openMethod });
      assert.deepEqual([code, reason], [Code.ResourceExhausted, "RATE_LIMITED"], wireName(wire));
    }
    for (const stream of begun) stream.close(http2.constants.NGHTTP2_CANCEL);
    await until("they are over", async () => (await inFlight(edge)) === 0);
    for (const wire of allWires)
      assert.ok((await callWire(wire, edge.url, { method: openMethod })).answer, wireName(wire));
  });

  test("full, the internal listener still tells strangers only that it does not know them", async () => {
    await using edge = await start({ limits: { callsInFlight: 0 }, side: "internal" });
    for (const wire of allWires) {
      const { reason } = await callWire(wire, edge.url, { method: mineMethod });
      assert.equal(reason, "UNAUTHENTICATED", wireName(wire));
      const known = await callWire(wire, edge.url, { method: mineMethod, headers: [edge.bearer()] });
      assert.deepEqual([known.code, known.reason], [Code.Unavailable, "OVERLOADED"], wireName(wire));
      assert.equal(known.status, wire.protocol === "connect" ? 503 : 200);
      assert.equal(edge.seen.at(-1)!.bodyRead, false, wireName(wire));
    }
    assert.equal(handlerRuns, 0);
  });

  for (const fastPath of [true, false]) {
    test(`R-NET-06 full, the public listener refuses everybody at once (fast path ${fastPath})`, async () => {
      await using edge = await start({ limits: { callsInFlight: 0 }, fastPath });
      for (const wire of allWires) {
        for (const headers of [[], [edge.bearer()], [["authorization", "Bearer x"] as const]]) {
          const { code, reason, status } = await callWire(wire, edge.url, { method: mineMethod, headers });
          assert.deepEqual([code, reason], [Code.Unavailable, "OVERLOADED"], wireName(wire));
          assert.equal(status, wire.protocol === "connect" ? 503 : 200, wireName(wire));
          // The fast path throws the body away, which this cannot tell from not reading it.
          if (!fastPath) assert.equal(edge.seen.at(-1)!.bodyRead, false, wireName(wire));
        }
      }
      await until("they are over", async () => (await inFlight(edge)) === 0);
      const counted = /^rpc_server_refused_total\{reason="overloaded"\} (\d+)$/m.exec(await edge.metrics.text());
      assert.equal(Number(counted![1]), allWires.length * 3);
    });
  }

  for (const fastPath of [true, false]) {
    test(`gives no place to a call that ended while its caller was looked at (fast path ${fastPath})`, async () => {
      const checks: ((isLive: boolean) => void)[] = [];
      const checkSession = () => new Promise<boolean>((resolve) => void checks.push(resolve));
      await using edge = await start({ limits: { callsInFlight: PLACES }, fastPath, checkSession });
      for (const way of allWays) {
        for (const headers of [[], [["connect-timeout-ms", "50"] as const, ["grpc-timeout", "50m"] as const]]) {
          checks.length = 0;
          using opened = openClient<LoadClient>(service, way, edge.url, [edge.bearer(), ...headers]);
          const leaving = new AbortController();
          const calls = Array.from({ length: PLACES }, () => opened.client.mine({}, { signal: leaving.signal }));
          const over = Promise.allSettled(calls);
          await until("their sessions are being checked", () => checks.length === PLACES);
          if (headers.length === 0) leaving.abort();
          await over;
          await until("they are over", async () => (await inFlight(edge)) === 0);
          for (const answer of checks) answer(true);
          await assertAllFree(edge, way, "after they ended");
        }
      }
    });
  }
});

/** Calls that are not accounted for yet. */
async function inFlight({ metrics }: Edge): Promise<number> {
  return Number(/^rpc_server_calls_in_flight (\d+)$/m.exec(await metrics.text())?.[1]);
}
