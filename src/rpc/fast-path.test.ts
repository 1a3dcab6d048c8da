/** The short way of unary calls: what takes it, and what is left to the long one. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { openClient } from "../testing/clients.ts";
import type { Edge } from "../testing/edge.ts";
import {
  ann,
  annBytes,
  connect,
  empty,
  fastCalls,
  fastWires,
  type Greeting,
  greet,
  grpc,
  mine,
  type Name,
  pathOf,
  service,
  startFast,
  timeoutOf,
} from "../testing/fast-service.ts";
import { openHttp2 } from "../testing/listener.ts";
import { callWire, frameMessage, type Wire, type WireRequest, wireName } from "../testing/wire.ts";

describe("the short way", () => {
  let edge: Edge;
  before(async () => {
    edge = await startFast();
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
