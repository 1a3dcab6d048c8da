import assert from "node:assert/strict";
import test from "node:test";
import { createClient, createContextValues, createRouterTransport } from "@connectrpc/connect";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { systemClock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import { createLogger } from "../log.ts";
import { createTracing, traceKey } from "../telemetry/traces.ts";
import { startTraceCollector } from "../testing/trace-collector.ts";
import { createServiceKey } from "../token/key-making.ts";
import { connectService } from "./service-client.ts";
import { traceCalls } from "./trace-calls.ts";

const { check } = Health.method;

/** Makes one call in a trace; returns how the call's part of it ended. */
async function endOf(makeCall: (contextValues: ReturnType<typeof createContextValues>) => Promise<unknown>) {
  await using collector = await startTraceCollector();
  {
    const log = createLogger({ level: "info", mode: "development", destination: { write() {} } });
    const options = { url: collector.url, ratio: 1, serviceName: "test", clock: systemClock, log };
    await using tracing = await createTracing(options);
    const trace = tracing.begin(check, {}, { isTrusted: false });
    await makeCall(createContextValues().set(traceKey, trace)).catch(() => {});
  }
  return collector.spans.map(({ name, attributes }) => `${name} ${attributes["rpc.status_code"]}`);
}

/** A server in memory, whose streams say something twice and end as they are told. */
function clientOf(end: "done" | "fails" | "waits", seen: (string | null)[] = []) {
  const transport = createRouterTransport(({ service }) => {
    service(Health, {
      check(_, { requestHeader }) {
        seen.push(requestHeader.get("traceparent"), requestHeader.get("x-mine"));
        if (end === "fails") throw fail(Code.NotFound, "NOT_FOUND", "unknown service");
        return {};
      },
      async *watch(_, { requestHeader, signal }) {
        seen.push(requestHeader.get("traceparent"));
        yield {};
        yield {};
        if (end === "fails") throw fail(Code.Aborted, "CONFLICT", "try again");
        if (end === "waits") await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    });
  });
  return createClient(Health, traceCalls(transport));
}

test("a unary call ends its part as it ended, and keeps its own headers", async () => {
  const seen: (string | null)[] = [];
  const headers = { "x-mine": "kept" };
  const fine = await endOf((contextValues) => clientOf("done", seen).check({}, { contextValues, headers }));
  assert.deepEqual(fine, ["grpc.health.v1.Health/Check OK"]);
  assert.match(seen[0]!, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  assert.equal(seen[1], "kept");
  assert.deepEqual(await endOf((contextValues) => clientOf("fails").check({}, { contextValues })), [
    "grpc.health.v1.Health/Check NOT_FOUND",
  ]);
});

test("a call outside of any trace goes without one", async () => {
  const seen: (string | null)[] = [];
  await clientOf("done", seen).check({});
  for await (const _ of clientOf("done", seen).watch({}));
  assert.deepEqual(seen, [null, null, null]);
});

test("a stream ends its part when it is read to its end, fails, or is left", async () => {
  const read = async (end: Parameters<typeof clientOf>[0], contextValues: ReturnType<typeof createContextValues>) => {
    for await (const _ of clientOf(end).watch({}, { contextValues }));
  };
  assert.deepEqual(await endOf((values) => read("done", values)), ["grpc.health.v1.Health/Watch OK"]);
  assert.deepEqual(await endOf((values) => read("fails", values)), ["grpc.health.v1.Health/Watch ABORTED"]);
  const leave = async (contextValues: ReturnType<typeof createContextValues>) => {
    const leaving = new AbortController();
    for await (const _ of clientOf("waits").watch({}, { contextValues, signal: leaving.signal })) break;
    leaving.abort();
  };
  assert.deepEqual(await endOf(leave), ["grpc.health.v1.Health/Watch CANCELLED"]);
});

test("a peer that is not there is UNAVAILABLE in the trace, too, as the caller sees it", async () => {
  const key = createServiceKey("user", "auth", "service");
  using nowhere = connectService({ baseUrl: "http://127.0.0.1:1", key, clock: systemClock });
  const ended = await endOf((contextValues) => nowhere.client(Health).check({}, { contextValues }));
  assert.deepEqual(ended, ["grpc.health.v1.Health/Check UNAVAILABLE"]);
});
