/** What callers see of a server that stops: calls in flight are answered, streams are told, and nothing holds it for long. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import { test } from "node:test";
import type { Client } from "@connectrpc/connect";
import { type CallOptions, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import {
  SayHelloRequestSchema,
  type SayHelloResponse,
  SayHelloResponseSchema,
} from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { allWays, openClient, wayName } from "../testing/clients.ts";
import { type TestMethod, testService } from "../testing/contract.ts";
import { openHttp2 } from "../testing/listener.ts";
import { startPublicServer } from "../testing/public-server.ts";
import { until } from "../testing/until.ts";
import { frameMessage } from "../testing/wire.ts";

const types = { input: SayHelloRequestSchema, output: SayHelloResponseSchema };
const open: Pick<TestMethod, "access"> = { access: { who: { case: "public", value: {} } } };
const service = testService("DrainService", {
  Ask: { ...types, ...open },
  Download: { ...types, ...open, stream: "server" },
  Upload: { ...types, ...open, stream: "client" },
  Talk: { ...types, ...open, stream: "both" },
});

interface DrainClient {
  ask(input: { name: string }, options?: CallOptions): Promise<SayHelloResponse>;
  download(input: { name: string }): AsyncIterable<SayHelloResponse>;
  upload(input: AsyncIterable<{ name: string }>): Promise<SayHelloResponse>;
  talk(input: AsyncIterable<{ name: string }>): AsyncIterable<SayHelloResponse>;
}

const ann = { name: "Ann" };
const never = new Promise<never>(() => {});

/** A server whose calls wait for the gate, and whose streams last; none of them listens to its signal. */
async function start(variables: Record<string, string> = {}) {
  const gate = Promise.withResolvers<{ message: string }>();
  const seen = { calls: 0, streams: 0, signals: [] as AbortSignal[] };
  const logLines: Record<string, unknown>[] = [];
  const implementation = {
    ask(_: unknown, { signal }: HandlerContext) {
      seen.calls++;
      seen.signals.push(signal);
      return gate.promise;
    },
    async *download() {
      seen.streams++;
      yield { message: "open" };
      await never;
    },
    upload() {
      seen.streams++;
      return never;
    },
    async *talk() {
      seen.streams++;
      yield { message: "open" };
      await never;
    },
  } as unknown as ServiceImpl<typeof service>;
  const { server } = await startPublicServer({
    services: [{ name: "drain", services: [service] }],
    implement: () => [{ desc: service, implementation }],
    variables: { CONCIERGE_REQUESTS_PER_SECOND: "0", CONCIERGE_DRAIN_SECONDS: "10", ...variables },
    log: createLogger({
      level: "debug",
      mode: "development",
      destination: { write: (line) => void logLines.push(JSON.parse(line)) },
    }),
  });
  return { server, gate, seen, logLines, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

async function* annForEver() {
  yield ann;
  await never;
}

/** Resolves with the reason of the error that ended a stream. */
async function endOf(answers: AsyncIterable<unknown> | Promise<unknown>): Promise<ConnectError> {
  try {
    if (answers instanceof Promise) await answers;
    else for await (const _ of answers);
  } catch (thrown) {
    return ConnectError.from(thrown);
  }
  return assert.fail("it ended without an error");
}

function assertDraining(error: ConnectError, what = ""): void {
  assert.deepEqual([Code[error.code], reasonOf(error)], ["Unavailable", "DRAINING"], `${what} ${error.message}`);
}

test("R-DEP-02 not ready, then GOAWAY; 100 calls are answered, 50 streams are told that it drains", async () => {
  await using running = await start();
  const { server, gate, seen } = running;
  await using clients = new AsyncDisposableStack();
  const ways = allWays.filter(({ http }) => http === "2");
  const opened = ways.map((way) => clients.use(openClient<DrainClient>(service, way, server.publicUrl)).client);
  const calls = Array.from({ length: 100 }, (_, index) => opened[index % 3]!.ask(ann));
  const openStream = (client: DrainClient, kind: number) => {
    if (kind === 0) return client.download(ann);
    return kind === 1 ? client.upload(annForEver()) : client.talk(annForEver());
  };
  const streams = Array.from({ length: 50 }, (_, index) =>
    endOf(openStream(opened[index % 3]!, Math.floor(index / 3) % 3)),
  );
  await until("all are in flight", () => seen.calls === 100 && seen.streams === 50);
  using session = await openHttp2(server.publicUrl);
  const goingAway = once(session, "goaway");
  const stopped = server[Symbol.asyncDispose]();
  await goingAway;
  for (const [index, end] of streams.entries()) assertDraining(await end, `${index}`);
  const ready = await fetch(`${server.internalUrl}/readyz`);
  const { status, missing } = (await ready.json()) as { status: string; missing: string[] };
  assert.deepEqual([ready.status, status], [503, "not ready"]);
  // A busy machine may hold the process up as well.
  const reasons = missing.filter((line) => !line.startsWith("the event loop"));
  assert.deepEqual(reasons, ["the process is stopping"]);
  await assert.rejects(fetch(`${server.publicUrl}/healthz`), "new connections are not taken");
  using internal = openClient<Client<typeof Health>>(Health, ways[0]!, server.internalUrl);
  assert.equal((await internal.client.check({})).status, Status.NOT_SERVING);
  gate.resolve({ message: "done" });
  for (const call of calls) assert.equal((await call).message, "done");
  const startedAt = performance.now();
  await stopped;
  assert.ok(performance.now() - startedAt < 5_000, "it went on after the last call had ended");
  assert.deepEqual(
    running.logLines.filter(({ level }) => level === "error"),
    [],
  );
  assert.equal(running.logLines.at(-1)!.msg, "stopped");
});

for (const way of allWays) {
  test(`R-DEP-02 a call and a stream that are open when it begins (${wayName(way)})`, async () => {
    await using running = await start();
    const { server, gate, seen } = running;
    using opened = openClient<DrainClient>(service, way, server.publicUrl);
    const call = opened.client.ask(ann);
    const stream = endOf(opened.client.download(ann));
    await until("both are open", () => seen.calls === 1 && seen.streams === 1);
    const stopped = server[Symbol.asyncDispose]();
    assertDraining(await stream);
    gate.resolve({ message: "done" });
    assert.equal((await call).message, "done");
    await stopped;
  });
}

test("what has not ended in half of the time is cut, and its handler hears of it", async () => {
  for (const CONCIERGE_RPC_FAST_PATH of ["true", "false"]) {
    await using running = await start({ CONCIERGE_DRAIN_SECONDS: "4", CONCIERGE_RPC_FAST_PATH });
    const { server, seen } = running;
    await using clients = new AsyncDisposableStack();
    const calls = allWays.map((way) =>
      endOf(clients.use(openClient<DrainClient>(service, way, server.publicUrl)).client.ask(ann)),
    );
    await until("all are in flight", () => seen.calls === calls.length);
    const startedAt = performance.now();
    await server[Symbol.asyncDispose]();
    const tookMs = performance.now() - startedAt;
    assert.ok(tookMs >= 1_900 && tookMs < 3_900, `${tookMs} ms`);
    for (const call of calls) assert.ok([Code.Unavailable, Code.Canceled, Code.Aborted].includes((await call).code));
    assert.ok(seen.signals.every(({ aborted }) => aborted));
    const lines = running.logLines.filter(({ procedure }) => procedure);
    assert.deepEqual(new Set(lines.map(({ reason }) => reason)), new Set(["CANCELED"]));
    assert.equal(lines.length, calls.length);
  }
});

test("a client that does not end its side of a stream does not hold it", async () => {
  await using running = await start();
  const { server, seen } = running;
  using session = await openHttp2(server.publicUrl);
  const streams = ["application/grpc", "application/grpc-web", "application/connect+proto"].map((type) => {
    const path = `/${service.typeName}/Talk`;
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type });
    stream.on("error", () => {});
    stream.write(frameMessage(Buffer.from([0x0a, 1, 0x41])));
    return stream.resume();
  });
  await until("the streams are open", () => seen.streams === streams.length);
  const startedAt = performance.now();
  await server[Symbol.asyncDispose]();
  assert.ok(performance.now() - startedAt < 4_000);
  for (const { rstCode } of streams) assert.equal(rstCode, http2.constants.NGHTTP2_NO_ERROR);
});

test("who watches the health hears that it no longer serves, and then that it drains", async () => {
  for (const way of allWays) {
    await using running = await start();
    for (const url of [running.server.publicUrl, running.server.internalUrl]) {
      using opened = openClient<Client<typeof Health>>(Health, way, url);
      const watch = opened.client.watch({})[Symbol.asyncIterator]();
      assert.equal((await watch.next()).value?.status, Status.SERVING);
      if (url === running.server.publicUrl) continue;
      const stopped = running.server[Symbol.asyncDispose]();
      assert.equal((await watch.next()).value?.status, Status.NOT_SERVING, wayName(way));
      assertDraining(await endOf(watch.next()), wayName(way));
      await stopped;
    }
  }
});

test("reflection, which lasts as long as its client likes, is told, too", async () => {
  await using running = await start({ CONCIERGE_MODE: "development", CONCIERGE_REFLECTION: "true" });
  const { publicUrl } = running.server;
  using opened = openClient<Client<typeof ServerReflection>>(ServerReflection, allWays[0]!, publicUrl);
  async function* questions() {
    yield { messageRequest: { case: "listServices" as const, value: "" } };
    await never;
  }
  const answers = opened.client.serverReflectionInfo(questions())[Symbol.asyncIterator]();
  assert.equal((await answers.next()).value?.messageResponse.case, "listServicesResponse");
  const stopped = running.server[Symbol.asyncDispose]();
  assertDraining(await endOf(answers.next()));
  await stopped;
});

test("stopping twice is stopping once", async () => {
  await using running = await start();
  const { server } = running;
  await Promise.all([server[Symbol.asyncDispose](), server[Symbol.asyncDispose]()]);
  assert.equal(running.logLines.filter(({ msg }) => msg === "stopped").length, 1);
});
