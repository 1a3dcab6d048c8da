/** Calls without a token are refused before a byte of their body is read, however much of it comes. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { StructSchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { Code } from "../errors.ts";
import { methodOf, testService } from "../testing/contract.ts";
import { type Edge, startEdge } from "../testing/edge.ts";
import { until } from "../testing/until.ts";
import { allWires, callWire, frameMessage, type Wire, wireName } from "../testing/wire.ts";

const types = { input: StructSchema, output: StructSchema };
const service = testService("EdgeService", {
  Open: { ...types, access: { who: { case: "public", value: {} } } },
  Mine: { ...types, access: { who: { case: "user", value: {} } } },
});
const mine = methodOf<typeof StructSchema, typeof StructSchema>(service, "Mine");

let handlerRuns = 0;
beforeEach(() => {
  handlerRuns = 0;
});
const count = (message: unknown) => {
  handlerRuns++;
  return message;
};
const implementation = { open: count, mine: count } as unknown as ServiceImpl<typeof service>;

describe("a call without a token", () => {
  let edge: Edge;

  before(async () => {
    edge = await startEdge({ implementations: [{ desc: service, implementation }], limits: { defaultMs: 5_000 } });
  });

  after(() => edge[Symbol.asyncDispose]());

  const bodies: Record<
    string,
    (wire: Wire) => { message?: Uint8Array; body?: Uint8Array; headers?: [string, string][] }
  > = {
    "no body": () => ({ body: Buffer.alloc(0) }),
    "a malformed message": () => ({ message: Buffer.from([0x0a, 0xff]) }),
    "60 KB": () => ({ message: Buffer.alloc(60_000) }),
    "a gzip bomb": (wire) => {
      const message = gzipSync(Buffer.alloc(8_000_000));
      if (wire.protocol === "connect") return { body: message, headers: [["content-encoding", "gzip"]] };
      return { body: frameMessage(message, 1), headers: [["grpc-encoding", "gzip"]] };
    },
    "an unknown compression": ({ protocol }) => ({
      headers: [[protocol === "connect" ? "content-encoding" : "grpc-encoding", "zstd"]],
    }),
    "a malformed deadline": ({ protocol }) => ({
      headers: [[protocol === "connect" ? "connect-timeout-ms" : "grpc-timeout", "soon"]],
    }),
  };
  for (const [name, bodyOf] of Object.entries(bodies)) {
    test(`S-API-01 without a token, ${name}: unauthenticated before the body is read, over every wire`, async () => {
      for (const wire of allWires) {
        const answer = await callWire(wire, edge.url, { method: mine, ...bodyOf(wire) });
        const { code, message, reason } = answer;
        const expected = { code: Code.Unauthenticated, message: "unauthenticated", reason: "UNAUTHENTICATED" };
        assert.deepEqual({ code, message, reason }, expected, wireName(wire));
        assert.equal(edge.seen.at(-1)!.bodyRead, false, wireName(wire));
      }
      assert.equal(handlerRuns, 0);
    });
  }

  test("S-API-01 a body that never ends is answered at once and its HTTP/1.1 connection is closed", async () => {
    for (const wire of allWires.filter(({ http }) => http === "1.1")) {
      // Ten of the promised bytes come; callWire() waits until the server closes.
      const headers = [["content-length", "60000"] as const, ["connection", "keep-alive"] as const];
      const answer = await callWire(wire, edge.url, { method: mine, body: Buffer.alloc(10), headers });
      assert.equal(answer.code, Code.Unauthenticated, wireName(wire));
      assert.equal(answer.headers.find(([name]) => name === "connection")?.[1], "close", wireName(wire));
    }
  });

  test("S-API-01 a flood on HTTP/1.1 is cut off after a bounded number of bytes", async () => {
    const socket = net.connect(Number(new URL(edge.url).port), "127.0.0.1");
    socket.on("error", () => {}); // writing fails when the server has closed
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    const size = 32 * 1024 * 1024;
    const head = [
      `POST /${service.typeName}/Mine HTTP/1.1`,
      "host: x",
      "content-type: application/proto",
      `content-length: ${size}`,
    ];
    socket.write(`${head.join("\r\n")}\r\n\r\n`);
    const piece = Buffer.alloc(256 * 1024);
    for (let sent = 0; sent < size && socket.writable; sent += piece.length) {
      if (socket.write(piece)) continue;
      await Promise.race([new Promise((resolve) => socket.once("drain", resolve)), closed]);
    }
    await closed;
    // One that writes on without reading may find the connection gone before it has seen the answer.
    assert.match(text, /^(HTTP\/1.1 401 |$)/);
    const { bytesRead, bodyRead } = edge.seen.at(-1)!;
    assert.equal(bodyRead, false);
    // Node reads 64 KiB at a time, and one piece more before it stops.
    assert.ok(bytesRead < 512 * 1024, `${bytesRead} bytes were read`);
  });

  for (const type of ["application/proto", "application/grpc", "application/grpc-web+json", "text/plain"]) {
    for (const name of ["Mine", "Nope"]) {
      test(`S-API-01 a flood of ${type} on HTTP/2 to ${name} ends its stream within the window, and no other`, async () => {
        const session = http2.connect(edge.url);
        const path = `/${service.typeName}/${name}`;
        const stream = session.request({ ":method": "POST", ":path": path, "content-type": type });
        stream.on("error", () => {});
        stream.resume();
        stream.write(Buffer.alloc(8 * 1024 * 1024)); // and never an end
        const isAnswered = once(stream, "response");
        await once(stream, "close");
        await isAnswered;
        assert.equal(stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
        const seen = edge.seen.at(-1)!;
        assert.equal(seen.bodyRead, false);
        assert.ok(seen.bytesRead < 128 * 1024, `${seen.bytesRead} bytes were read`);
        const next = session.request({ ":method": "POST", ":path": `/${service.typeName}/Open` });
        next.end();
        const [nextHeaders] = await once(next, "response");
        assert.equal(nextHeaders[":status"], 415);
        next.close();
        session.close();
        await once(session, "close");
      });
    }
  }

  test("a refused HTTP/1.1 call whose body has arrived leaves the connection open for the next", async () => {
    const socket = net.connect(Number(new URL(edge.url).port), "127.0.0.1");
    const call = `POST /${service.typeName}/Mine HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: 0\r\n\r\n`;
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    for (const answers of [1, 2]) {
      socket.write(call);
      await until("the answer", () => text.split("HTTP/1.1 401").length - 1 === answers);
    }
    socket.destroy();
  });
});
