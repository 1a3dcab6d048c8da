/** The short way of unary calls: what takes it, that nobody can tell, and that nothing of a call is left when it is over. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type http2 from "node:http2";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { DurationSchema, EmptySchema, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { SayHelloRequestSchema, SayHelloResponseSchema } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, fail } from "../errors.ts";
import { openClient } from "../testing/clients.ts";
import { methodOf, type TestMethod, testService } from "../testing/contract.ts";
import { type Edge, type EdgeOptions, startEdge } from "../testing/edge.ts";
import type { HeaderLine } from "../testing/http.ts";
import { openHttp2 } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { callWire, frameMessage, type Wire, type WireAnswer, type WireRequest, wireName } from "../testing/wire.ts";

type Name = typeof SayHelloRequestSchema;
type Greeting = typeof SayHelloResponseSchema;

const greeting = { input: SayHelloRequestSchema, output: SayHelloResponseSchema };
const open: Pick<TestMethod, "access"> = { access: { who: { case: "public", value: {} } } };
const user: Pick<TestMethod, "access"> = { access: { who: { case: "user", value: {} } } };
const service = testService("FastService", {
  Greet: { ...greeting, ...open, idempotency: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS },
  Mine: { ...greeting, ...user },
  Empty: { input: EmptySchema, output: EmptySchema, ...open },
  MyEmpty: { input: EmptySchema, output: EmptySchema, ...user },
  Misfit: { input: EmptySchema, output: DurationSchema, ...open },
  Stream: { ...greeting, ...open, stream: "server" },
  Large: { ...greeting, ...open, maxRequestBytes: 100_000 },
  Small: { ...greeting, ...open, maxRequestBytes: 50 },
});
const greet = methodOf<Name, Greeting>(service, "Greet");
const mine = methodOf<Name, Greeting>(service, "Mine");
const empty = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Empty");
const myEmpty = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "MyEmpty");
const misfit = methodOf<typeof EmptySchema, typeof DurationSchema>(service, "Misfit");
const large = methodOf<Name, Greeting>(service, "Large");
const small = methodOf<Name, Greeting>(service, "Small");

type Act = (input: { name: string }, context: HandlerContext) => unknown;
const answer: Act = ({ name }) => ({ message: name });
let act = answer;
beforeEach(() => {
  act = answer;
});
const run: Act = (input, context) => act(input, context);
const implementation = {
  ...{ greet: run, mine: run, large: run, small: run },
  ...{ empty: () => ({}), myEmpty: () => ({}), misfit: () => ({ nanos: 1.5 }) },
  async *stream(input: { name: string }) {
    yield { message: input.name };
  },
} as unknown as ServiceImpl<typeof service>;
const start = (options: Partial<EdgeOptions> = {}) =>
  startEdge({ implementations: [{ desc: service, implementation }], ...options });

const grpc: Wire = { protocol: "grpc", encoding: "proto", http: "2" };
const connect: Wire = { protocol: "connect", encoding: "proto", http: "2" };
const fastWires = [grpc, connect];
const ann = { name: "Ann" };
const annBytes = toBinary(SayHelloRequestSchema, create(SayHelloRequestSchema, ann));
const timeoutOf = ({ protocol }: Wire, ms: number): HeaderLine =>
  protocol === "connect" ? ["connect-timeout-ms", String(ms)] : ["grpc-timeout", `${ms}m`];
const pathOf = (method: { name: string }) => `/${service.typeName}/${method.name}`;

async function metric({ metrics }: Edge, name: string): Promise<number> {
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(await metrics.text())?.[1] ?? 0);
}
const fastCalls = (edge: Edge) => metric(edge, "rpc_server_fast_path_total");
const nothingOpen = (edge: Edge) =>
  until("nothing is open", async () => (await metric(edge, "rpc_server_calls_in_flight")) === 0);

describe("the short way", () => {
  let edge: Edge;
  before(async () => {
    edge = await start();
  });
  after(() => edge[Symbol.asyncDispose]());

  type Sent = Partial<WireRequest<Name, Greeting>> & { wire?: Wire };
  const header = (name: string, value: string): Sent => ({ headers: [[name, value]] });
  const cases: [what: string, isTaken: boolean, sent: (wire: Wire) => Sent][] = [
    ["a plain call", true, () => ({})],
    [
      "a call that says it is not compressed",
      true,
      ({ protocol }) => header(protocol === "grpc" ? "grpc-encoding" : "content-encoding", "identity"),
    ],
    ["a call whose answer may be compressed", true, () => header("grpc-accept-encoding", "gzip")],
    ["a deadline", true, (wire) => ({ headers: [timeoutOf(wire, 5_000)] })],
    ["a call of somebody known", true, () => ({ method: mine, headers: [edge.bearer()] })],
    ["a call of nobody known", true, () => ({ method: mine })],
    [
      "a compressed message",
      false,
      ({ protocol }) =>
        protocol === "grpc"
          ? { body: frameMessage(gzipSync(annBytes), 1), headers: [["grpc-encoding", "gzip"]] }
          : { body: gzipSync(annBytes), headers: [["content-encoding", "gzip"]] },
    ],
    ["JSON", false, ({ protocol }) => ({ wire: { protocol, encoding: "json", http: "2" } })],
    ["gRPC-Web", false, () => ({ wire: { protocol: "grpc-web", encoding: "proto", http: "2" } })],
    ["HTTP/1.1", false, ({ protocol }) => ({ wire: { protocol, encoding: "proto", http: "1.1" } })],
    [
      "another spelling of the content type",
      false,
      ({ protocol }) => header("content-type", protocol === "grpc" ? "Application/gRPC" : "Application/Proto"),
    ],
    ["a page of a browser", false, () => header("origin", "https://app.example")],
    [
      "a malformed deadline",
      false,
      ({ protocol }) => header(protocol === "grpc" ? "grpc-timeout" : "connect-timeout-ms", "soon"),
    ],
    ["a path with a query", false, () => ({ path: `${pathOf(greet)}?x` })],
    ["an unknown path", false, () => ({ path: `${pathOf(greet)}s` })],
    ["another method of HTTP", false, () => ({ httpMethod: "PUT" })],
  ];
  for (const [what, isTaken, sent] of cases) {
    test(`${isTaken ? "takes" : "leaves"} ${what}`, async () => {
      for (const wire of fastWires) {
        const before = await fastCalls(edge);
        const { wire: other = wire, ...request } = sent(wire);
        await callWire(other, edge.url, { method: greet, message: ann, ...request });
        assert.equal((await fastCalls(edge)) - before, isTaken ? 1 : 0, wireName(wire));
      }
    });
  }

  test("leaves a GET and a stream", async () => {
    const before = await fastCalls(edge);
    const got = await callWire(connect, edge.url, { method: greet, message: ann, httpMethod: "GET" });
    assert.equal(got.answer?.message, "Ann");
    interface StreamClient {
      stream(input: typeof ann): AsyncIterable<{ message: string }>;
    }
    using opened = openClient<StreamClient>(service, grpc, edge.url);
    for await (const { message } of opened.client.stream(ann)) assert.equal(message, "Ann");
    assert.equal(await fastCalls(edge), before);
  });

  test("takes an authority with or without a port, and leaves one that is odd", async () => {
    using session = await openHttp2(edge.url);
    for (const [authority, status] of [
      ["a-b.example", 200],
      ["a-b.example:80", 200],
      ["[::1]:80", 200],
      ["127.0.0.1:50051", 200],
      ["999.1.1.1", 400],
      ["a:99999", 400],
    ] as const) {
      const before = await fastCalls(edge);
      const stream = session.request({
        ":method": "POST",
        ":path": pathOf(empty),
        ":authority": authority,
        "content-type": "application/proto",
      });
      stream.end();
      stream.resume();
      const [headers] = await once(stream, "response");
      assert.equal(headers[":status"], status, authority);
      assert.equal((await fastCalls(edge)) - before, status === 200 ? 1 : 0, authority);
    }
  });
});

/** All that a client can see, wherever it stands: gRPC's status may come with the headers or after the body. */
function visible({ status, code, message, reason, answer, headers, trailers }: WireAnswer<Greeting>) {
  const ignored = new Set(["date", "x-request-id", "content-length", "content-type"]);
  const lines = [...headers, ...trailers].filter(([name]) => !ignored.has(name)).map((line) => line.join(": "));
  return { status, code, message, reason, answer: answer?.message, lines: lines.toSorted() };
}

describe("an answer on the short way is that of the long one", () => {
  let edges: Edge[];
  before(async () => {
    const limits = { callsInFlight: 100, defaultMs: 5_000 };
    edges = [await start({ limits }), await start({ limits, fastPath: false })];
  });
  after(() => Promise.all(edges.map((edge) => edge[Symbol.asyncDispose]())));

  const throws =
    (error: () => unknown): Act =>
    () => {
      throw error();
    };
  const withHeaders: Act = ({ name }, { responseHeader, responseTrailer }) => {
    responseHeader.set("x-one", "1");
    responseHeader.append("x-two", "a");
    responseHeader.append("x-two", "b");
    responseHeader.append("set-cookie", "a=1");
    responseHeader.append("set-cookie", "b=2");
    responseTrailer.set("x-trailer", "t");
    responseTrailer.set("x-bytes-bin", "AAEC");
    return { message: name };
  };
  const echoHeaders: Act = (_, { requestHeader, protocolName, requestMethod, url }) => ({
    message: JSON.stringify([
      ["x-in", "x-several", "content-type", "x-none"].map((name) => requestHeader.get(name)),
      [protocolName, requestMethod, new URL(url).pathname],
    ]),
  });
  const cases: Record<
    string,
    { act?: Act; request?: (wire: Wire) => Partial<WireRequest<Name, Greeting>>; expected?: Code }
  > = {
    success: {},
    "response headers and trailers": { act: withHeaders },
    "request headers": {
      act: echoHeaders,
      request: () => ({
        headers: [
          ["X-In", "1"],
          ["x-several", "a"],
          ["x-several", "b"],
        ],
      }),
    },
    "a failure": { act: throws(() => fail(Code.NotFound, "NOT_FOUND", "there is none")), expected: Code.NotFound },
    "a failure after headers": {
      act(input, context) {
        withHeaders(input, context);
        throw fail(Code.Aborted, "CONFLICT", "no", { retryAfterMs: 5 });
      },
      expected: Code.Aborted,
    },
    "a fault": { act: throws(() => new Error("secret")), expected: Code.Internal },
    "a rejection": { act: () => Promise.reject(new Error("secret")), expected: Code.Internal },
    "a broken rule": { request: () => ({ message: { name: "" } }), expected: Code.InvalidArgument },
    "text that cannot be stored": { request: () => ({ message: { name: "\0" } }), expected: Code.InvalidArgument },
    "a malformed message": {
      request: () => ({ message: Buffer.from([0x0a, 0xff]) }),
      expected: Code.InvalidArgument,
    },
    "a message that is too large": {
      request: () => ({ message: Buffer.alloc(70_000) }),
      expected: Code.ResourceExhausted,
    },
    "no token": { request: () => ({ method: mine }), expected: Code.Unauthenticated },
    "a bad token": {
      request: () => ({ method: mine, headers: [["authorization", "Bearer x"]] }),
      expected: Code.Unauthenticated,
    },
    "a deadline that passes": {
      act: () => new Promise(() => {}),
      request: (wire) => ({ headers: [timeoutOf(wire, 60)] }),
      expected: Code.DeadlineExceeded,
    },
  };
  for (const [what, { act: acting = answer, request, expected }] of Object.entries(cases)) {
    test(`after ${what}`, async () => {
      act = acting;
      for (const wire of fastWires) {
        const before = await fastCalls(edges[0]!);
        const [short, long] = await Promise.all(
          edges.map((edge) => callWire(wire, edge.url, { method: greet, message: ann, ...request?.(wire) })),
        );
        assert.deepEqual(visible(short!), visible(long!), wireName(wire));
        assert.equal(short!.code, expected, wireName(wire));
        assert.equal(await fastCalls(edges[0]!), before + 1);
        assert.equal(await fastCalls(edges[1]!), 0);
      }
    });
  }

  test("after an answer that does not fit the contract", async () => {
    for (const wire of fastWires) {
      for (const edge of edges) {
        edge.logLines.length = 0;
        const { code, message, reason } = await callWire(wire, edge.url, { method: misfit });
        assert.deepEqual(
          { code, message, reason },
          { code: Code.Internal, message: "internal error", reason: "INTERNAL" },
        );
        const line = await until("the log line", () => edge.logLines[0]);
        assert.deepEqual([line.level, line.code], ["error", "Internal"], wireName(wire));
      }
    }
  });

  test("a method's own limit takes the place of the listener's, and is that of no other", async () => {
    const sized = (bytes: number) => ({ name: "x".repeat(bytes - (bytes > 129 ? 4 : 2)) });
    // The contract allows 100 characters; a message that is not too large breaks that rule.
    const expected = [
      [small, 50, undefined],
      [small, 51, "MESSAGE_TOO_LARGE"],
      [large, 99_999, "INVALID_REQUEST"],
      [large, 100_002, "MESSAGE_TOO_LARGE"],
      [greet, 65_536, "INVALID_REQUEST"],
      [greet, 65_538, "MESSAGE_TOO_LARGE"],
    ] as const;
    for (const [method, bytes, reason] of expected) {
      for (const [index, edge] of edges.entries()) {
        for (const wire of [...fastWires, { protocol: "grpc-web", encoding: "proto", http: "1.1" } as const]) {
          const answered = await callWire(wire, edge.url, { method, message: sized(bytes) });
          assert.equal(answered.reason, reason, `${method.name} ${bytes} ${index} ${wireName(wire)}`);
        }
      }
    }
  });

  test("a body that comes byte by byte is one body", async () => {
    for (const edge of edges) {
      using session = await openHttp2(edge.url);
      for (const [name, status] of [
        ["Zoë", 200],
        ["x".repeat(60_000), 400],
      ] as const) {
        const body = toBinary(SayHelloRequestSchema, create(SayHelloRequestSchema, { name }));
        for (const type of ["application/proto", "application/grpc"]) {
          const stream = session.request({ ":method": "POST", ":path": pathOf(greet), "content-type": type });
          const bytes = type === "application/grpc" ? frameMessage(body) : body;
          const response = once(stream, "response");
          // Each goes into a frame of its own, until the rest would take too long.
          for (let at = 0; at < Math.min(bytes.length, 2_000); at++) {
            await new Promise((resolve) => stream.write(bytes.subarray(at, at + 1), resolve));
          }
          stream.end(bytes.subarray(2_000));
          const [headers] = await response;
          const grpcStatus = status === 200 ? undefined : "3";
          if (type === "application/proto") assert.equal(headers[":status"], status);
          else if (headers["grpc-status"] !== undefined) assert.equal(headers["grpc-status"], grpcStatus);
          else {
            const trailers = once(stream, "trailers");
            stream.resume();
            assert.equal((await trailers)[0]["grpc-status"], grpcStatus ?? "0");
          }
          stream.close();
        }
      }
    }
  });
});

for (const fastPath of [true, false]) {
  const way = fastPath ? "short" : "long";
  const post = (session: http2.ClientHttp2Session, method: { name: string }, wire: Wire, lines: HeaderLine[] = []) => {
    const stream = session.request({
      ":method": "POST",
      ":path": pathOf(method),
      "content-type": wire.protocol === "grpc" ? "application/grpc" : "application/proto",
      ...Object.fromEntries(lines),
    });
    stream.on("error", () => {});
    return stream.resume();
  };

  describe(`a call on the ${way} way`, () => {
    let edge: Edge;
    before(async () => {
      edge = await start({ fastPath, limits: { defaultMs: 250 } });
    });
    after(() => edge[Symbol.asyncDispose]());

    for (const wire of fastWires) {
      test(`S-H2-08 whose body does not come, or drips, is DEADLINE_EXCEEDED in time (${wireName(wire)})`, async () => {
        const body = frameMessage(Buffer.alloc(200));
        for (const sentBytes of [0, 3, 7]) {
          for (const drips of [false, true]) {
            edge.logLines.length = 0;
            using session = await openHttp2(edge.url);
            const startedAt = performance.now();
            const stream = post(session, mine, wire, [edge.bearer()]);
            const response = once(stream, "response");
            let at = sentBytes;
            if (at > 0) stream.write(body.subarray(0, at));
            const drip = () => stream.write(body.subarray(at, ++at));
            const dripping = drips ? setInterval(drip, 20) : undefined;
            const [headers] = await response;
            const closed = stream.closed ? undefined : once(stream, "close");
            clearInterval(dripping);
            await closed;
            assert.ok(performance.now() - startedAt < 2_000, "it took longer than its deadline");
            assert.equal(headers[":status"], wire.protocol === "grpc" ? 200 : 504);
            const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
            assert.deepEqual([line.code, line.reason], ["DeadlineExceeded", "DEADLINE_EXCEEDED"]);
            await nothingOpen(edge);
            assert.equal(session.closed, false);
          }
        }
      });

      test(`whose client leaves aborts what its handler waits for (${wireName(wire)})`, async () => {
        const running = Promise.withResolvers<AbortSignal>();
        act = (_, { signal }) => {
          running.resolve(signal);
          return delay(60_000, undefined, { signal });
        };
        edge.logLines.length = 0;
        using session = await openHttp2(edge.url);
        const stream = post(session, greet, wire, [timeoutOf(wire, 60_000)]);
        stream.end(wire.protocol === "grpc" ? frameMessage(annBytes) : annBytes);
        const signal = await running.promise;
        assert.equal(signal.aborted, false);
        const aborted = once(signal, "abort");
        stream.close(8);
        await aborted;
        const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
        assert.deepEqual([line.level, line.code, line.reason], ["info", "Canceled", "CANCELED"]);
        await nothingOpen(edge);
      });

      test(`whose client left before its handler asks for the signal finds it aborted (${wireName(wire)})`, async () => {
        const running = Promise.withResolvers<void>();
        const gone = Promise.withResolvers<void>();
        const found = Promise.withResolvers<boolean>();
        act = async (_, context) => {
          running.resolve();
          await gone.promise;
          found.resolve(context.signal.aborted);
          return {};
        };
        using session = await openHttp2(edge.url);
        const stream = post(session, greet, wire, [timeoutOf(wire, 60_000)]);
        stream.end(wire.protocol === "grpc" ? frameMessage(annBytes) : annBytes);
        await running.promise;
        stream.close(8);
        await nothingOpen(edge);
        gone.resolve();
        assert.equal(await found.promise, true);
      });

      test(`whose body is empty is read as that, however its end comes (${wireName(wire)})`, async () => {
        using session = await openHttp2(edge.url);
        const endings: Record<string, (stream: http2.ClientHttp2Stream) => unknown> = {
          "with the headers": () => {},
          "in a frame of its own": (stream) => stream.end(),
          "a moment later": (stream) => setTimeout(() => stream.end(), 50),
        };
        for (const method of [empty, myEmpty]) {
          for (const [how, end] of Object.entries(endings)) {
            const stream = session.request(
              {
                ":method": "POST",
                ":path": pathOf(method),
                "content-type": wire.protocol === "grpc" ? "application/grpc" : "application/proto",
                ...Object.fromEntries([edge.bearer()]),
              },
              { endStream: how === "with the headers" },
            );
            stream.resume();
            const response = once(stream, "response");
            const trailers = wire.protocol === "grpc" ? once(stream, "trailers") : undefined;
            trailers?.catch(() => {});
            // Sends the headers alone, so that the end is a frame of its own.
            if (how !== "with the headers") await new Promise((resolve) => setImmediate(resolve));
            end(stream);
            const [headers] = await response;
            const what = `${method.name}, ${how}`;
            if (wire.protocol === "connect") assert.equal(headers[":status"], 200, what);
            else {
              // gRPC has a frame around an empty message, too.
              const status = headers["grpc-status"] ?? (await trailers)?.[0]["grpc-status"];
              assert.equal(status, String(Code.Unimplemented), what);
            }
            if (!stream.closed) await once(stream, "close");
          }
        }
        await nothingOpen(edge);
      });
    }
  });
}

describe("what a handler cannot mean", () => {
  test("headers or trailers that HTTP/2 forbids end the call, and nothing else", async () => {
    await using edge = await start();
    const bad: Act[] = [
      (_, { responseHeader }) => {
        responseHeader.set("connection", "close");
        return {};
      },
      (_, { responseHeader }) => {
        responseHeader.set("transfer-encoding", "chunked");
        throw fail(Code.NotFound, "NOT_FOUND", "there is none");
      },
      (_, { responseTrailer }) => {
        responseTrailer.set("connection", "close");
        return {};
      },
    ];
    for (const wire of fastWires) {
      for (const [index, one] of bad.entries()) {
        // Connect's trailers are headers, with a prefix.
        if (wire.protocol === "connect" && index === 2) continue;
        act = one;
        edge.logLines.length = 0;
        await callWire(wire, edge.url, { method: greet, message: ann }).catch(() => {});
        const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
        assert.deepEqual([line.level, line.code], ["error", "Internal"], `${wireName(wire)} ${index}`);
        await nothingOpen(edge);
        act = answer;
        assert.equal((await callWire(wire, edge.url, { method: greet, message: ann })).answer?.message, "Ann");
      }
    }
  });
});
