/** A listener with more to do than it takes on: which calls it refuses, how, and when there is room again. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { beforeEach, describe, test } from "node:test";
import { durationMs, EmptySchema } from "@bufbuild/protobuf/wkt";
import { type CallOptions, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import { allWays, openClient, type Way, wayName } from "../testing/clients.ts";
import { methodOf, type TestMethod, testService } from "../testing/contract.ts";
import { type Edge, type EdgeOptions, startEdge } from "../testing/edge.ts";
import type { HeaderLine } from "../testing/http.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";

function retryAfterMs(thrown: unknown): number | undefined {
  const delay = ConnectError.from(thrown).findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay && durationMs(delay);
}

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
