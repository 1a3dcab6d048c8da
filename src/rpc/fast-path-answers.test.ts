/** That nobody can tell the short way of unary calls from the long one by its answers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, beforeEach, describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { SayHelloRequestSchema } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { Code, fail } from "../errors.ts";
import type { Edge } from "../testing/edge.ts";
import {
  type Act,
  ann,
  answer,
  fastCalls,
  fastWires,
  type Greeting,
  greet,
  handler,
  large,
  mine,
  misfit,
  type Name,
  nothingOpen,
  pathOf,
  small,
  startFast,
  timeoutOf,
} from "../testing/fast-service.ts";
import { openHttp2 } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { callWire, frameMessage, type Wire, type WireAnswer, type WireRequest, wireName } from "../testing/wire.ts";

beforeEach(() => {
  handler.act = answer;
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
    edges = [await startFast({ limits }), await startFast({ limits, fastPath: false })];
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
      handler.act = acting;
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

describe("what a handler cannot mean", () => {
  test("headers or trailers that HTTP/2 forbids end the call, and nothing else", async () => {
    await using edge = await startFast();
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
        handler.act = one;
        edge.logLines.length = 0;
        await callWire(wire, edge.url, { method: greet, message: ann }).catch(() => {});
        const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
        assert.deepEqual([line.level, line.code], ["error", "Internal"], `${wireName(wire)} ${index}`);
        await nothingOpen(edge);
        handler.act = answer;
        assert.equal((await callWire(wire, edge.url, { method: greet, message: ann })).answer?.message, "Ann");
      }
    }
  });
});
