/** What is answered, and how, on paths and in ways that nothing serves; and what the log says of each call. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { EmptySchema, MethodOptions_IdempotencyLevel, StructSchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { Code } from "../errors.ts";
import type { Implementation } from "../service.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { type HttpAnswer, sendHttp } from "../testing/http.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, wireName } from "../testing/wire.ts";

const service = testService("EdgeService", {
  Open: { input: StructSchema, output: StructSchema, access: { who: { case: "public", value: {} } } },
  Read: {
    input: StructSchema,
    output: StructSchema,
    access: { who: { case: "public", value: {} } },
    idempotency: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
  },
  Mine: { input: StructSchema, output: StructSchema, access: { who: { case: "user", value: {} } } },
  Hang: { input: EmptySchema, output: EmptySchema, access: { who: { case: "public", value: {} } } },
});
const internalService = testService("EdgeInternalService", {
  Ask: {
    input: EmptySchema,
    output: EmptySchema,
    access: { who: { case: "callers", value: { services: ["caller"] } } },
  },
});
const open = methodOf<typeof StructSchema, typeof StructSchema>(service, "Open");
const read = methodOf<typeof StructSchema, typeof StructSchema>(service, "Read");
const mine = methodOf<typeof StructSchema, typeof StructSchema>(service, "Mine");
const hang = methodOf<typeof EmptySchema, typeof EmptySchema>(service, "Hang");
const ask = methodOf<typeof EmptySchema, typeof EmptySchema>(internalService, "Ask");

let handlerRuns = 0;
beforeEach(() => {
  handlerRuns = 0;
});
let hanging = Promise.withResolvers<AbortSignal>();
const count = (message: unknown) => {
  handlerRuns++;
  return message;
};
const implementation = {
  open: count,
  read: count,
  mine: count,
  hang(_: unknown, { signal }: { signal: AbortSignal }) {
    hanging.resolve(signal);
    return new Promise(() => {});
  },
};
const implementations = [
  { desc: service, implementation: implementation as unknown as ServiceImpl<typeof service> },
] satisfies Implementation[];

const header = ({ headers, trailers }: HttpAnswer, name: string) =>
  [...headers, ...trailers].find(([found]) => found === name)?.[1];

/** Waits for it: a log line is written when the response has been closed, which its reader may see earlier. */
function lineOf(edge: Edge, answer: HttpAnswer): Promise<Record<string, unknown>> {
  const requestId = header(answer, "x-request-id");
  return until("the log line", () => edge.logLines.find((line) => line.requestId === requestId));
}

describe("the edge", () => {
  let edge: Edge;

  before(async () => {
    edge = await startEdge({ implementations, limits: { defaultMs: 5_000 } });
  });

  after(() => edge[Symbol.asyncDispose]());

  test("S-API-13 unknown method, wrong case, //, %2F, trailing slash: not there, over every wire", async () => {
    const { typeName } = service;
    const paths = [
      `/${typeName}/Nope`,
      `/${typeName}/open`,
      `/${typeName.toLowerCase()}/Open`,
      `//${typeName}/Open`,
      `/${typeName}//Open`,
      `/${typeName}%2FOpen`,
      `/${typeName}/Open/`,
      `/${typeName}/./Open`,
      `/${typeName}/Mine/../Open`,
      `/${typeName}/Open;x=1`,
      "/",
    ];
    for (const path of paths) {
      for (const wire of allWires) {
        const answer = await callWire(wire, edge.url, { method: open, path });
        assert.equal(answer.code, Code.Unimplemented, `${wireName(wire)} ${path}`);
        assert.equal(answer.reason, "UNIMPLEMENTED", `${wireName(wire)} ${path}`);
        assert.equal(answer.status, wire.protocol === "connect" ? 404 : 200, `${wireName(wire)} ${path}`);
      }
    }
    assert.equal(handlerRuns, 0);
  });

  test("S-API-13 on the internal side an unknown path and a known one look the same without a token", async () => {
    const answers = { ask: () => ({}) } as unknown as ServiceImpl<typeof internalService>;
    await using internal = await startEdge({
      side: "internal",
      implementations: [{ desc: internalService, implementation: answers }],
    });
    for (const wire of allWires) {
      const path = `/${internalService.typeName}/ask`;
      const [known, unknown] = [
        await callWire(wire, internal.url, { method: ask }),
        await callWire(wire, internal.url, { method: ask, path }),
      ];
      for (const { code, message, reason, status } of [known, unknown]) {
        const expected = { code: Code.Unauthenticated, message: "unauthenticated", reason: "UNAUTHENTICATED" };
        assert.deepEqual({ code, message, reason }, expected, wireName(wire));
        assert.equal(status, known.status);
      }
      if (wire.protocol === "connect") assert.deepEqual(unknown.body, known.body);
    }
  });

  test("S-API-14 GET on a method that changes something, and PUT, DELETE, TRACE on any: 405", async () => {
    const query = "?connect=v1&encoding=json&message=%7B%7D";
    for (const http of ["1.1", "2"] as const) {
      for (const [httpMethod, method] of [
        ["GET", open],
        ["GET", mine],
        ["PUT", read],
        ["DELETE", read],
        ["PATCH", read],
        ["TRACE", read],
        ["OPTIONS", read],
      ] as const) {
        const path = `/${service.typeName}/${method.name}${query}`;
        const answer = await sendHttp(http, edge.url, { httpMethod, path, headers: [] });
        assert.equal(answer.status, 405, `${httpMethod} ${method.name} h${http}`);
        assert.equal((await lineOf(edge, answer)).code, "Unimplemented");
      }
      assert.equal(handlerRuns, 0);
      const path = `/${service.typeName}/Read${query}`;
      const answer = await sendHttp(http, edge.url, { httpMethod: "GET", path, headers: [] });
      assert.deepEqual([answer.status, String(answer.body), handlerRuns], [200, "{}", 1], `GET h${http}`);
      handlerRuns = 0;
    }
  });

  test("a GET whose message is no base64 is the client's mistake", async () => {
    const get = (message: string) =>
      callWire({ protocol: "connect", encoding: "json", http: "1.1" }, edge.url, {
        method: read,
        httpMethod: "GET",
        path: `/${service.typeName}/Read?connect=v1&encoding=json&base64=1&message=${message}`,
      });
    for (const message of ["%25%25", "e", "e30=e30=", "e%20%20%20", "%00"]) {
      const { status, reason } = await get(message);
      assert.deepEqual({ status, reason }, { status: 400, reason: "MALFORMED_MESSAGE" }, message);
    }
    assert.equal(handlerRuns, 0);
    for (const message of ["e30", "e30%3D"]) assert.equal((await get(message)).status, 200, message);
  });

  test("S-API-15 content types that no protocol has: 415, and the handler is not entered", async () => {
    const types = ["text/plain", "application/x-www-form-urlencoded", "application/grpc+thrift", "application/xml", ""];
    for (const http of ["1.1", "2"] as const) {
      for (const type of [...types, undefined]) {
        const answer = await sendHttp(http, edge.url, {
          httpMethod: "POST",
          path: `/${service.typeName}/Open`,
          headers: type === undefined ? [] : [["content-type", type]],
          body: Buffer.from("{}"),
        });
        assert.equal(answer.status, 415, `${type} h${http}`);
        assert.equal(edge.seen.at(-1)!.bodyRead, false);
        assert.equal((await lineOf(edge, answer)).code, "Unimplemented");
      }
    }
    assert.equal(handlerRuns, 0);
  });

  test("a request that does not say for which host it is, is told so", async () => {
    for (const host of ["a b", "", "[", "x:99999"]) {
      const answer = await callWire(allWires[0]!, edge.url, { method: open, headers: [["host", host]] });
      assert.deepEqual([answer.status, answer.reason], [400, "MALFORMED_MESSAGE"], host);
      assert.equal((await lineOf(edge, answer)).code, "InvalidArgument");
    }
  });

  test("a HEAD request is a call that ends, too", async () => {
    const session = http2.connect(edge.url);
    for (const path of ["Open", "Nope"]) {
      const logged = edge.logLines.length;
      const stream = session.request({ ":method": "HEAD", ":path": `/${service.typeName}/${path}` });
      stream.resume();
      await once(stream, "close");
      await until("its log line", () => edge.logLines.length > logged);
    }
    assert.match(await edge.metrics.text(), /^rpc_server_calls_in_flight 0$/m);
    session.close();
  });

  test("one log line a call: request id, trace id, procedure, protocol, caller, code, reason, duration", async () => {
    for (const wire of allWires) {
      const bearer = edge.bearer();
      const refused = await callWire(wire, edge.url, { method: mine });
      const answered = await callWire(wire, edge.url, { method: mine, headers: [bearer] });
      const { durationMs, caller, time, requestId, traceId, ...line } = await lineOf(edge, answered);
      const shared = { mode: "development", procedure: `/${service.typeName}/Mine`, protocol: wire.protocol };
      assert.deepEqual(line, { level: "info", ...shared, code: "ok", msg: "call" }, wireName(wire));
      assert.match(String(requestId), /^[0-9a-f-]{36}$/);
      assert.match(String(traceId), /^[0-9a-f]{32}$/);
      assert.match(String(caller), /^user [0-9a-f-]{36}$/);
      assert.ok(typeof durationMs === "number" && durationMs > 0 && durationMs < 5_000);
      const { code, reason, refusal, caller: nobody } = await lineOf(edge, refused);
      assert.deepEqual([code, reason, refusal, nobody], ["Unauthenticated", "UNAUTHENTICATED", "missing", undefined]);
      assert.equal(edge.logLines.filter((other) => other.requestId === requestId).length, 1);
    }
  });

  test("a service that is starting says so, before it looks at who calls", async () => {
    await using starting = await startEdge({ implementations, isStarted: () => false });
    for (const wire of allWires) {
      const { code, reason } = await callWire(wire, starting.url, { method: mine, message: Buffer.alloc(100) });
      assert.deepEqual({ code, reason }, { code: Code.Unavailable, reason: "UNAVAILABLE" }, wireName(wire));
      assert.equal(starting.seen.at(-1)!.bodyRead, false);
    }
  });

  for (const http of ["1.1", "2"] as const) {
    test(`a client that goes away aborts the handler's signal, and the log says so (HTTP/${http})`, async () => {
      hanging = Promise.withResolvers();
      edge.logLines.length = 0;
      const leave = await startHanging(http, edge.url);
      const signal = await hanging.promise;
      assert.equal(signal.aborted, false);
      const aborted = once(signal, "abort");
      leave();
      await aborted;
      const line = await until("the log line", () => edge.logLines.find(({ procedure }) => procedure));
      assert.deepEqual([line.code, line.reason], ["Canceled", "CANCELED"]);
    });
  }
});

/** Sends a whole call of the method that never answers; what it returns gives up waiting. */
async function startHanging(http: "1.1" | "2", url: string): Promise<() => void> {
  const path = `/${service.typeName}/${hang.name}`;
  if (http === "2") {
    const session = http2.connect(url);
    session.on("error", () => {});
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/proto" });
    stream.on("error", () => {});
    stream.end();
    return () => {
      stream.close(http2.constants.NGHTTP2_CANCEL);
      session.close();
    };
  }
  const socket = net.connect(Number(new URL(url).port), "127.0.0.1");
  socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: 0\r\n\r\n`);
  return () => socket.destroy();
}
