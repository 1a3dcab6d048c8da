/** Calls of one address in a time: how they are counted, and what the address is told that calls too often. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { durationMs, EmptySchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { allWays, openClient, wayName } from "../testing/clients.ts";
import { createTestClock } from "../testing/clock.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type EdgeOptions, startEdge } from "../testing/edge.ts";
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

let handlerRuns = 0;
beforeEach(() => {
  handlerRuns = 0;
});
const types = { input: EmptySchema, output: EmptySchema };
const service = testService("RateService", {
  Open: { ...types, access: { who: { case: "public", value: {} } } },
  Mine: { ...types, access: { who: { case: "user", value: {} } } },
});
const openMethod = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Open");
const run = () => {
  handlerRuns++;
  return {};
};
const implementation = { open: run, mine: run } as unknown as ServiceImpl<typeof service>;

const start = (options: Partial<EdgeOptions> = {}) =>
  startEdge({ implementations: [{ desc: service, implementation }], ...options });

interface RateClient {
  open(input: object): Promise<unknown>;
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
      using opened = openClient<RateClient>(service, way, edge.url);
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
        // A process that was held up for a second is not ready for another one.
        await until(`${path} is answered`, async () => {
          const response = await fetch(`${server.publicUrl}${path}`);
          await response.arrayBuffer();
          assert.ok(response.status === 200 || response.status === 503, `${path} ${response.status}`);
          return response.status === 200;
        });
      }
    }
    // The internal listener has no such limit: its callers are known.
    const answers = Array.from({ length: 5 }, () => callWire(wire, server.server.internalUrl, { method: openMethod }));
    for (const { reason } of await Promise.all(answers)) assert.notEqual(reason, "RATE_LIMITED");
  });
});
