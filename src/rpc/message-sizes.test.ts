/** How large a message may be, plain or compressed, and that no more of it is read or kept than that. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { after, before, beforeEach, describe, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { StructSchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { Code } from "../errors.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { defaultPlatform, type Edge, startEdge } from "../testing/edge.ts";
import { allWires, callWire, frameMessage, type Wire, wireName } from "../testing/wire.ts";
import { messageDigest } from "../token/service-token.ts";
import { limitsOf } from "./routes.ts";

const types = { input: StructSchema, output: StructSchema };
const service = testService("SizeService", { Echo: { ...types, access: { who: { case: "public", value: {} } } } });
const internalService = testService("SizeInternalService", {
  Echo: { ...types, access: { who: { case: "callers", value: { services: ["caller"] } } } },
});
const echo = methodOf<typeof StructSchema, typeof StructSchema>(service, "Echo");
const internalEcho = methodOf<typeof StructSchema, typeof StructSchema>(internalService, "Echo");

let handlerRuns = 0;
beforeEach(() => {
  handlerRuns = 0;
});
const implementation = {
  echo(message: unknown) {
    handlerRuns++;
    return message;
  },
} as unknown as ServiceImpl<typeof service>;
const implementations = [{ desc: service, implementation }];
const internalImplementations = [{ desc: internalService, implementation }];

const protoWires = allWires.filter(({ encoding }) => encoding === "proto");
const CODEC = { gzip: gzipSync, br: brotliCompressSync };
const TOO_LARGE = { code: Code.ResourceExhausted, message: "the message is too large", reason: "MESSAGE_TOO_LARGE" };

/** A message of exactly this many bytes that both encodings can read. */
function messageOf(wire: Wire, bytes: number): Uint8Array {
  if (wire.encoding === "json") return Buffer.from(`{${" ".repeat(bytes - 2)}}`);
  const empty = toBinary(
    StructSchema,
    create(StructSchema, { fields: { a: { kind: { case: "stringValue", value: "" } } } }),
  );
  assert.equal(empty.length, 9);
  for (let length = bytes - 24; length <= bytes; length++) {
    const value = { kind: { case: "stringValue" as const, value: "x".repeat(length) } };
    const message = toBinary(StructSchema, create(StructSchema, { fields: { a: value } }));
    if (message.length === bytes) return message;
  }
  return assert.fail(`no message has ${bytes} bytes`);
}

const LIMITS = { public: 64 * 1024, internal: 4 * 1024 * 1024 };

for (const side of ["public", "internal"] as const) {
  const limit = LIMITS[side];
  const method = side === "public" ? echo : internalEcho;
  const path = `/${method.parent.typeName}/${method.name}`;
  // The large ones over fewer wires: each call carries 4 MiB.
  const wires =
    side === "public"
      ? allWires
      : allWires.filter(({ protocol, http }) => (protocol === "connect") === (http === "1.1"));

  describe(`messages of the ${side} listener`, () => {
    let edge: Edge;

    before(async () => {
      const { messageBytes } = limitsOf(side, defaultPlatform);
      assert.equal(messageBytes, limit);
      edge = await startEdge({
        side,
        implementations: side === "public" ? implementations : internalImplementations,
        limits: { messageBytes },
      });
    });

    after(() => edge[Symbol.asyncDispose]());

    /** A token for these bytes, where one is needed. */
    const tokenFor = (message: Uint8Array) =>
      side === "public" ? [] : [edge.serviceToken(path, messageDigest(message))];

    test("S-API-02 a message of the limit is read; one byte more is MESSAGE_TOO_LARGE", async () => {
      for (const wire of wires) {
        const fitting = messageOf(wire, limit);
        const answered = await callWire(wire, edge.url, { method, message: fitting, headers: tokenFor(fitting) });
        assert.ok(answered.answer, `${wireName(wire)} ${answered.message}`);
        const larger = messageOf(wire, limit + 1);
        const refused = await callWire(wire, edge.url, { method, message: larger, headers: tokenFor(larger) });
        assert.deepEqual([refused.code, refused.reason], [TOO_LARGE.code, TOO_LARGE.reason], wireName(wire));
      }
      assert.equal(handlerRuns, wires.length);
    });

    test("S-API-02 a message that promises too much, or never ends, is not read further than the limit", async () => {
      for (const wire of wires) {
        const headers = [...tokenFor(Buffer.alloc(0))];
        // Framed protocols promise a size in the frame; Connect in content-length.
        const promise = Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        const body = wire.protocol === "connect" ? Buffer.alloc(limit * 2) : promise;
        const answer = await callWire(wire, edge.url, { method, body, headers });
        const refusedForSize = answer.reason === "MESSAGE_TOO_LARGE";
        // Where a digest was signed, a frame is compared whole before it is looked into.
        const refusedForDigest = side === "internal" && answer.reason === "UNAUTHENTICATED";
        assert.ok(refusedForSize || refusedForDigest, `${wireName(wire)} ${answer.reason}`);
      }
    });

    if (side === "public") {
      test("a decompression bomb is MESSAGE_TOO_LARGE, and is not inflated", async () => {
        const bomb = Buffer.alloc(32 * 1024 * 1024);
        for (const codec of ["gzip", "br"] as const) {
          const bytes = CODEC[codec](bomb);
          assert.ok(bytes.length < limit);
          const before = process.memoryUsage().arrayBuffers;
          let peak = 0;
          const sampler = setInterval(() => {
            peak = Math.max(peak, process.memoryUsage().arrayBuffers);
          }, 1);
          for (const wire of protoWires) {
            const isConnect = wire.protocol === "connect";
            const answer = await callWire(wire, edge.url, {
              method,
              body: isConnect ? bytes : frameMessage(bytes, 1),
              headers: [[isConnect ? "content-encoding" : "grpc-encoding", codec]],
            });
            const { code, message, reason } = answer;
            assert.deepEqual({ code, message, reason }, TOO_LARGE, `${wireName(wire)} ${codec}`);
          }
          clearInterval(sampler);
          assert.ok(peak - before < 16 * 1024 * 1024, `${peak - before} bytes were taken`);
        }
        assert.equal(handlerRuns, 0);
      });
    }
  });
}

test("a message that is too large ends its HTTP/2 stream, and the connection serves the next", async () => {
  await using edge = await startEdge({ implementations, limits: { messageBytes: 1_000 } });
  const session = http2.connect(edge.url);
  for (let round = 0; round < 3; round++) {
    const stream = session.request({
      ":method": "POST",
      ":path": `/${service.typeName}/Echo`,
      "content-type": "application/grpc",
    });
    stream.on("error", () => {});
    stream.resume();
    stream.write(frameMessage(Buffer.alloc(100_000))); // and never an end
    const headers = new Promise<http2.IncomingHttpHeaders>((resolve) => stream.once("response", resolve));
    assert.equal((await headers)["grpc-status"], String(Code.ResourceExhausted));
    await new Promise((resolve) => stream.once("close", resolve));
  }
  session.close();
});
