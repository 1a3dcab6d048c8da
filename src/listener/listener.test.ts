/** One port for HTTP/1.1 and HTTP/2: how they are told apart, which limits hold, and who harms nobody. */
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import http2 from "node:http2";
import type net from "node:net";
import { test } from "node:test";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { systemClock } from "../clock.ts";
import { StartupError } from "../errors.ts";
import { createTestClock } from "../testing/clock.ts";
import { echo, openHttp2, startListener } from "../testing/listener.ts";
import { callHttp2, rawSocket, textOf } from "../testing/listener-sockets.ts";
import { defaultLimits } from "./limits.ts";
import { listen } from "./listener.ts";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Writes one byte at a time and waits until each has left, so that the server reads them apart. */
async function drip(socket: net.Socket, bytes: Buffer): Promise<void> {
  for (const byte of bytes) {
    await new Promise<unknown>((resolve) => socket.write(Buffer.of(byte), resolve));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** An HTTP/2 frame. */
function frame(type: number, flags: number, streamId: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

/** HEADERS that open and end a stream: GET / with `extra` more headers of 100 bytes, never indexed. */
function headersFrame(streamId: number, extra = 0): Buffer {
  const literal = (name: string, value: string) => [
    0,
    name.length,
    ...Buffer.from(name),
    value.length,
    ...Buffer.from(value),
  ];
  const fields = [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "x"],
  ];
  for (let index = 0; index < extra; index++) fields.push([`x-${index}`, "v".repeat(100)]);
  return frame(1, 5, streamId, Buffer.from(fields.flatMap(([name, value]) => literal(name!, value!))));
}

/** Calls back for each HTTP/2 frame the server sends. */
function onFrames(socket: net.Socket, onFrame: (type: number, streamId: number, payload: Buffer) => void): void {
  let rest = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const end = 9 + rest.readUIntBE(0, 3);
      onFrame(rest.readUInt8(3), rest.readUInt32BE(5), rest.subarray(9, end));
      rest = rest.subarray(end);
    }
  });
}

test("HTTP/1.1 and HTTP/2 are answered on one port, whose number is told", async () => {
  await using listener = await startListener();
  assert.equal(listener.url, `http://127.0.0.1:${listener.port}`);
  const session = await openHttp2(listener.url);
  assert.equal(await callHttp2(session, "two"), "2.0 POST two");
  const answer = await fetch(listener.url, { method: "POST", body: "one" });
  assert.equal(await answer.text(), "1.1 POST one");
  assert.equal(listener.connectionCount(), 2);
  session.close();
});

test("a connectNodeAdapter is a handler", async () => {
  await using listener = await startListener({ handler: connectNodeAdapter({ routes: () => {} }) });
  assert.equal((await fetch(listener.url)).status, 404);
});

test("a POST and an HTTP/2 preface that arrive byte by byte are told apart", async () => {
  await using listener = await startListener();
  const one = await rawSocket(listener.port);
  await drip(one, Buffer.from("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\none"));
  assert.match(await textOf(one), /^HTTP\/1\.1 200 OK[\s\S]*1\.1 POST one/);

  const two = await rawSocket(listener.port);
  const answered = new EventEmitter();
  onFrames(two, (type, streamId, payload) => type === 0 && answered.emit("data", streamId, String(payload)));
  const data = once(answered, "data");
  await drip(two, Buffer.concat([preface, frame(4, 0, 0), headersFrame(1)]));
  assert.deepEqual(await data, [1, "2.0 GET "]);
  two.destroy();
});

test("S-H2-11 whoever is too slow to say what it wants is cut, and others are served meanwhile", async () => {
  // Those who say nothing are cut by this clock; those who began with HTTP/1.1 by Node's, in real time.
  const clock = createTestClock();
  await using listener = await startListener({ clock, limits: { headersTimeoutMs: 150, requestTimeoutMs: 300 } });
  const slow = [
    "",
    "P",
    "PRI * HTTP/2.0\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
  ];
  const sockets = await Promise.all(slow.map(() => rawSocket(listener.port)));
  const cuts = sockets.map((socket, index) => {
    if (slow[index]) socket.write(slow[index]);
    return textOf(socket);
  });
  assert.equal((await fetch(listener.url, { headers: { connection: "close" } })).status, 200);
  for (const answer of await Promise.all(cuts.slice(3))) assert.match(answer, /^HTTP\/1\.1 408 /);
  clock.advance(defaultLimits.sniffTimeoutMs);
  assert.deepEqual(await Promise.all(cuts.slice(0, 3)), ["", "", ""]);
});

test("HTTP/1.1 headers over the limit are answered 431", async () => {
  await using listener = await startListener({ limits: { maxHeaderBytes: 2_000 } });
  const within = { "x-long": "v".repeat(1_500), connection: "close" };
  assert.equal((await fetch(listener.url, { headers: within })).status, 200);
  assert.equal((await fetch(listener.url, { headers: { "x-long": "v".repeat(2_500) } })).status, 431);
});

for (const acknowledgement of ["acknowledges", "never acknowledges"]) {
  test(`HTTP/2 headers over the limit reset the stream of a peer that ${acknowledgement} our settings`, async () => {
    let calls = 0;
    await using listener = await startListener({
      limits: { maxHeaderBytes: 2_000 },
      handler: (...call) => {
        calls++;
        echo(...call);
      },
    });
    const socket = await rawSocket(listener.port);
    const frames = new EventEmitter();
    onFrames(socket, (type, streamId, payload) => {
      if (type === 3) frames.emit("reset", streamId, payload.readUInt32BE());
      if (type === 0) frames.emit("data", streamId);
    });
    const reset = once(frames, "reset");
    const data = once(frames, "data");
    const settingsAck = acknowledgement === "acknowledges" ? [frame(4, 1, 0)] : [];
    socket.write(Buffer.concat([preface, frame(4, 0, 0), ...settingsAck, headersFrame(1, 30), headersFrame(3, 5)]));
    assert.deepEqual(await reset, [1, http2.constants.NGHTTP2_ENHANCE_YOUR_CALM]);
    assert.deepEqual(await data, [3]);
    assert.equal(calls, 1);
    socket.destroy();
  });
}

test("streams over the limit are refused, also to a peer that never acknowledges our settings", async () => {
  let calls = 0;
  await using listener = await startListener({ limits: { maxConcurrentStreams: 5 }, handler: () => calls++ });
  const socket = await rawSocket(listener.port);
  const refused: number[] = [];
  const frames = new EventEmitter();
  onFrames(socket, (type, streamId, payload) => {
    if (type !== 3) return;
    assert.equal(payload.readUInt32BE(), http2.constants.NGHTTP2_REFUSED_STREAM);
    refused.push(streamId);
    if (refused.length === 3) frames.emit("done");
  });
  const done = once(frames, "done");
  socket.write(Buffer.concat([preface, frame(4, 0, 0), ...[1, 3, 5, 7, 9, 11, 13, 15].map((id) => headersFrame(id))]));
  await done;
  assert.deepEqual(refused, [11, 13, 15]);
  assert.equal(calls, 5);
  socket.destroy();
});

test("an HTTP/2 session is closed after its idle time, but never while a stream is open", async () => {
  let nowMs = 0;
  const handled = new EventEmitter();
  const clockReads = new EventEmitter();
  await using listener = await startListener({
    clock: {
      ...systemClock,
      monotonic: () => {
        clockReads.emit("read");
        return nowMs;
      },
    },
    limits: { sessionIdleTimeoutMs: 60_000, lingerTimeoutMs: 100 },
    handler: (_request, response) => handled.emit("call", response),
  });
  const busy = await openHttp2(listener.url);
  const idle = await openHttp2(listener.url);
  const call = once(handled, "call");
  const answer = callHttp2(busy, "");
  const [response] = await call;
  const goaway = once(idle, "goaway");
  nowMs = 61_000;
  assert.equal((await goaway)[0], http2.constants.NGHTTP2_NO_ERROR);
  response.end("late");
  assert.equal(await answer, "late");
  nowMs = 62_000;
  for (let reads = 0; reads < 3; reads++) await once(clockReads, "read"); // by then it was looked at again
  const next = once(handled, "call");
  const nextAnswer = callHttp2(busy, "");
  (await next)[0].end("again");
  assert.equal(await nextAnswer, "again");
  busy.close();
});

test("a port that cannot be had is a StartupError with exit code 69 that names host and port", async () => {
  await using listener = await startListener();
  const attempt = (host: string, port: number) => listen({ host, port, handler: echo, clock: systemClock });
  const isStartupError = (pattern: RegExp) => (error: unknown) => {
    assert.ok(error instanceof StartupError);
    assert.equal(error.exitCode, 69);
    assert.match(error.message, pattern);
    return true;
  };
  const inUse = new RegExp(`127\\.0\\.0\\.1:${listener.port}: the port is in use`);
  await assert.rejects(attempt("127.0.0.1", listener.port), isStartupError(inUse));
  await assert.rejects(attempt("192.0.2.1", 0), isStartupError(/192\.0\.2\.1:0: this machine does not have that/));
  await assert.rejects(attempt("127.0.0.1", 70_000), isStartupError(/127\.0\.0\.1:70000: a port is 0 to 65535/));
});

test("the url of a wildcard host can be called", async () => {
  await using listener = await listen({ host: "0.0.0.0", port: 0, handler: echo, clock: systemClock });
  assert.equal(await (await fetch(listener.url, { headers: { connection: "close" } })).text(), "1.1 GET ");
});

test("peers that reset at any moment, or break the protocol, harm nobody", async () => {
  const handled = new EventEmitter();
  await using listener = await startListener({
    handler: (...call) => {
      handled.emit("call");
      echo(...call);
    },
  });
  for (const bytes of ["", "PRI", "GET / HTTP/1.1\r\n", `${preface}`]) {
    const socket = await rawSocket(listener.port);
    if (bytes) await new Promise((resolve) => socket.write(bytes, resolve));
    socket.resetAndDestroy();
  }
  for (const called of [
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    [preface, frame(4, 0, 0), headersFrame(1)],
  ]) {
    const socket = await rawSocket(listener.port);
    const call = once(handled, "call");
    socket.write(typeof called === "string" ? called : Buffer.concat(called));
    await call;
    socket.resetAndDestroy();
  }
  for (const nonsense of ["PRI * HTTP/2.0\r\n\r\nXX", "\x16\x03\x01", `${preface}GET / HTTP/1.1\r\nHost: x\r\n\r\n`]) {
    const socket = await rawSocket(listener.port);
    socket.write(nonsense, "latin1");
    await textOf(socket);
  }
  assert.equal(await (await fetch(listener.url, { headers: { connection: "close" } })).text(), "1.1 GET ");
});
