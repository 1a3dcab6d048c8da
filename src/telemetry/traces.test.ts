import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createContextValues } from "@connectrpc/connect";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { Code } from "../errors.ts";
import { createLogger } from "../log.ts";
import { createTestClock } from "../testing/clock.ts";
import { type CollectedSpan, startTraceCollector } from "../testing/trace-collector.ts";
import { until } from "../testing/until.ts";
import { createServiceKey } from "../token/key-making.ts";
import { createTracing, type TracingOptions, traceKey } from "./traces.ts";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID = "00f067aa0ba902b7";
const TRACEPARENT = `00-${TRACE_ID}-${SPAN_ID}-01`;
const { login } = AuthService.method;
const { getAccount } = AuthInternalService.method;
const { listRoles } = AccessInternalService.method;

const trusted = { isTrusted: true };
const stranger = { isTrusted: false };

function start(options: Partial<TracingOptions> = {}) {
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const log = createLogger({ level: "info", mode: "development", destination });
  const url = undefined;
  const tracing = createTracing({ url, ratio: 1, serviceName: "test", clock: systemClock, log, ...options });
  return { tracing, lines };
}

describe("a trace without a collector", () => {
  test("that the caller names goes on, as a part of its own", async () => {
    await using tracing = await start().tracing;
    const trace = tracing.begin(login, { traceparent: TRACEPARENT }, trusted);
    assert.equal(trace.traceId, TRACE_ID);
    assert.match(trace.traceparent, new RegExp(`^00-${TRACE_ID}-[0-9a-f]{16}-01$`));
    assert.notEqual(trace.spanId, SPAN_ID);
    assert.equal(trace.traceparent, `00-${TRACE_ID}-${trace.spanId}-01`);
    const onward = trace.client(getAccount);
    assert.equal(onward.traceId, TRACE_ID);
    assert.notEqual(onward.spanId, trace.spanId);
    onward.end();
    trace.end(Code.NotFound);
  });

  test("begins anew where the caller names it wrongly, and hands on only what our own services send", async () => {
    await using tracing = await start().tracing;
    const tracestate = "vendor=value";
    const broken = tracing.begin(login, { traceparent: `${TRACEPARENT}-more`, tracestate }, trusted);
    assert.notEqual(broken.traceId, TRACE_ID);
    assert.equal(broken.tracestate, undefined);
    const headers = { traceparent: TRACEPARENT, tracestate };
    assert.equal(tracing.begin(login, headers, stranger).tracestate, undefined);
    assert.equal(tracing.begin(login, headers, trusted).client(getAccount).tracestate, tracestate);
  });

  test("begins where the caller names none, and no two are alike", async () => {
    await using tracing = await start().tracing;
    const ids = Array.from({ length: 2_000 }, () => tracing.begin(login, {}, stranger)).flatMap((trace) => {
      assert.match(trace.traceparent, /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01$/);
      return [trace.traceId, trace.spanId];
    });
    assert.equal(new Set(ids).size, 4_000);
  });

  test("a decision of our own service holds; a stranger's does not", async () => {
    await using never = await start({ ratio: 0 }).tracing;
    await using always = await start({ ratio: 1 }).tracing;
    const unsampled = TRACEPARENT.replace(/01$/, "00");
    const flagsOf = (trace: { traceparent: string }) => trace.traceparent.slice(-2);
    assert.equal(flagsOf(never.begin(login, { traceparent: TRACEPARENT }, trusted)), "01");
    assert.equal(flagsOf(always.begin(login, { traceparent: unsampled }, trusted)), "00");
    assert.equal(flagsOf(never.begin(login, { traceparent: TRACEPARENT }, stranger)), "00");
    assert.equal(flagsOf(always.begin(login, { traceparent: unsampled }, stranger)), "01");
    assert.equal(flagsOf(never.begin(login, {}, trusted)), "00");
    assert.equal(flagsOf(never.begin(login, {}, trusted).client(getAccount)), "00");
  });

  test("no trace id that a stranger chooses is recorded more often than the share says", async () => {
    await using tracing = await start({ ratio: 0.1 }).tracing;
    for (const traceId of [TRACE_ID, `${"0".repeat(31)}1`, "f".repeat(32)]) {
      const headers = { traceparent: `00-${traceId}-${SPAN_ID}-01` };
      const traces = Array.from({ length: 5_000 }, () => tracing.begin(login, headers, stranger).traceparent);
      const sampled = traces.filter((text) => text.endsWith("-01")).length;
      assert.ok(sampled > 350 && sampled < 650, `${sampled} of 5,000`);
    }
  });
});

describe("a trace with a collector", () => {
  test("that was stored with its work goes on under the name of that work, unless nobody was to record it", async () => {
    await using collector = await startTraceCollector();
    {
      await using tracing = await start({ url: collector.url, ratio: 1 }).tracing;
      tracing.resume(TRACEPARENT, "push notification")!.end(Code.Unavailable);
      tracing.resume(TRACEPARENT.replace(/01$/, "00"), "push notification")!.end();
      assert.equal(tracing.resume("", "push notification"), undefined);
    }
    assert.equal(collector.spans.length, 1);
    const [{ name, kind, traceId, parentSpanId, attributes } = assert.fail()] = collector.spans;
    assert.deepEqual([name, kind, traceId, parentSpanId], ["push notification", 3, TRACE_ID, SPAN_ID]);
    assert.deepEqual(attributes, { "error.type": "UNAVAILABLE" });
  });

  test("S-LOG-01 from a client over two services is one trace, and nothing of what they sent is in it", async () => {
    const canary = "canary-77e1";
    await using collector = await startTraceCollector();
    const seen: http2.IncomingHttpHeaders[] = [];
    {
      await using tracing = await start({ url: collector.url }).tracing;
      await using access = await http2Server((stream, headers) => {
        seen.push(headers);
        const trace = tracing.begin(listRoles, headers, trusted);
        refuse(stream, Code.NotFound, canary);
        trace.end(Code.NotFound, { protocol: "grpc", caller: "service" });
      });
      using toAccess = connectService({ baseUrl: access.url, key: keyFor("access"), clock: systemClock });
      await using auth = await http2Server(async (stream, headers) => {
        seen.push(headers);
        const trace = tracing.begin(getAccount, headers, trusted);
        const contextValues = createContextValues().set(traceKey, trace);
        await assert.rejects(toAccess.client(AccessInternalService).listRoles({}, { contextValues }));
        refuse(stream, Code.Internal, canary);
        trace.end(Code.Internal, { protocol: "grpc", caller: "service" });
      });
      using toAuth = connectService({ baseUrl: auth.url, key: keyFor("auth"), clock: systemClock });
      const headers = { traceparent: TRACEPARENT, tracestate: `x=${canary}`, authorization: `Bearer ${canary}` };
      const trace = tracing.begin(login, headers, stranger);
      const contextValues = createContextValues().set(traceKey, trace);
      await assert.rejects(toAuth.client(AuthInternalService).getAccount({ userId: canary }, { contextValues }));
      trace.end(undefined, { protocol: "connect", caller: "user" });
    }
    const { spans } = collector;
    const find = (name: string, kind: number) => spans.find((span) => span.name.endsWith(name) && span.kind === kind)!;
    const chain = [find("/Login", 2), find("/GetAccount", 3), find("/GetAccount", 2), find("/ListRoles", 3)];
    chain.push(find("/ListRoles", 2));
    assert.equal(spans.length, 5);
    assert.deepEqual(new Set(spans.map(({ traceId }) => traceId)), new Set([TRACE_ID]));
    const parents = [SPAN_ID, ...chain.slice(0, -1).map(({ spanId }) => spanId)];
    assert.deepEqual(
      chain.map(({ parentSpanId }) => parentSpanId),
      parents,
    );
    const attributesOf = ({ attributes, status }: CollectedSpan) => [attributes["rpc.status_code"], status];
    assert.deepEqual(chain.map(attributesOf), [
      ["OK", 0],
      ["INTERNAL", 2],
      ["INTERNAL", 2],
      ["NOT_FOUND", 2],
      ["NOT_FOUND", 0], // that it is not there is the client's trouble
    ]);
    assert.deepEqual(chain[0]!.attributes, {
      "rpc.system.name": "connectrpc",
      "rpc.method": "concierge.auth.v1.AuthService/Login",
      "rpc.status_code": "OK",
      "concierge.caller.kind": "user",
    });
    assert.deepEqual(
      seen.map(({ traceparent, tracestate }) => [traceparent, tracestate]),
      [
        [`00-${TRACE_ID}-${chain[1]!.spanId}-01`, undefined],
        [`00-${TRACE_ID}-${chain[3]!.spanId}-01`, undefined],
      ],
    );
    assert.ok(collector.bodies.every((body) => !body.includes(canary)));
  });

  test("has the times of our clock, once for each call, and only what is sampled", async () => {
    await using collector = await startTraceCollector();
    const clock = createTestClock(1_700_000_000_250);
    {
      await using tracing = await start({ url: collector.url, clock, ratio: 0 }).tracing;
      tracing.begin(login, {}, stranger).end();
      const trace = tracing.begin(undefined, { traceparent: TRACEPARENT, tracestate: "a=b" }, trusted);
      clock.advance(1_500.5);
      trace.end(Code.Unimplemented);
      trace.end(Code.Internal);
    }
    assert.equal(collector.spans.length, 1);
    const [span] = collector.spans;
    assert.equal(span!.start, 1_700_000_000_250_000_000n);
    assert.equal(span!.end - span!.start, 1_500_500_000n);
    assert.equal(span!.name, "_OTHER");
    assert.equal(span!.traceState, "a=b");
    assert.equal(span!.attributes["error.type"], "UNIMPLEMENTED");
  });

  test("a collector that refuses costs a warning per outage, and no call", async () => {
    await using collector = await startTraceCollector();
    collector.behaviour = "refuse";
    const { tracing: starting, lines } = start({ url: collector.url });
    await using tracing = await starting;
    /** As many as are sent without waiting for more. */
    const fillBatch = () => {
      for (let count = 0; count < 512; count++) tracing.begin(login, {}, stranger).end();
    };
    const batches = (count: number) => until(`${count} batches`, () => collector.bodies.length === count);
    fillBatch();
    await until("the warning", () => lines.length === 1);
    fillBatch();
    await batches(2);
    collector.behaviour = "take";
    fillBatch();
    await until("the news", () => lines.length === 2);
    assert.deepEqual(
      lines.map(({ level, msg }) => [level, msg]),
      [
        ["warn", "traces are not delivered"],
        ["info", "traces are delivered again"],
      ],
    );
    assert.equal(collector.spans.length, 512);
  });

  test("a collector that is silent holds up neither calls nor the end, and what waits for it is bounded", async () => {
    await using collector = await startTraceCollector();
    collector.behaviour = "hang";
    const { tracing: starting, lines } = start({ url: collector.url });
    const tracing = await starting;
    for (let count = 0; count < 20_000; count++) tracing.begin(login, {}, stranger).end();
    await until("the first batch", () => collector.bodies.length === 1);
    const ended = tracing[Symbol.asyncDispose]().then(() => "ended");
    assert.equal(await Promise.race([ended, delay(4_000, "still waiting", { ref: false })]), "ended");
    // 512 are on their way when the rest comes, of which 4,096 may wait.
    await until("nine batches", () => collector.bodies.length === 9);
    await tracing[Symbol.asyncDispose]();
    await until("the warning", () => lines.length === 1);
  });

  test("a collector that is not there is no fault", async () => {
    const gone = await startTraceCollector();
    await gone[Symbol.asyncDispose]();
    const { tracing: starting, lines } = start({ url: gone.url });
    {
      await using tracing = await starting;
      tracing.begin(login, {}, stranger).end();
    }
    await until("the warning", () => lines.length === 1);
    assert.equal(lines[0]!.msg, "traces are not delivered");
  });
});

function keyFor(callee: string) {
  return createServiceKey("user", callee, "service");
}

/** A gRPC answer that is an error. */
function refuse(stream: http2.ServerHttp2Stream, code: Code, message: string): void {
  const headers = { ":status": 200, "content-type": "application/grpc+proto" };
  stream.respond({ ...headers, "grpc-status": String(code), "grpc-message": message }, { endStream: true });
}

async function http2Server(onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void) {
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session.on("error", () => {})));
  server.on("stream", onStream);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const session of sessions) session.destroy();
      await closed;
    },
  };
}
