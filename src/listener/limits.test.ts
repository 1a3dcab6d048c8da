/** What one peer may take of a listener: connections, requests in a row, answers that it does not read; and takeStream. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import http2 from "node:http2";
import { BlockList } from "node:net";
import { test } from "node:test";
import { createTestClock } from "../testing/clock.ts";
import { FrameType, http2Frame, PREFACE, settingsAck } from "../testing/http2-frames.ts";
import { callHttp2, openHttp2, opening, openRaw, postFrame, startListener } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { defaultLimits } from "./limits.ts";

const PERIOD_LIMITS = { lingerTimeoutMs: 100 }; // looks every 10 ms of real time; what has passed is said by the clock
const NOTHING_TO_READ = Buffer.from([0, 4, 0, 0, 0, 0]); // SETTINGS_INITIAL_WINDOW_SIZE = 0
const BIG = Buffer.alloc(16 * 1024 * 1024);

test("one connection more than an address may have is closed at once; others and proxies go on", async () => {
  const trustedProxies = new BlockList();
  trustedProxies.addAddress("127.0.3.1");
  await using listener = await startListener({ limits: { connectionsPerAddress: 3 }, trustedProxies });
  const open = (from: string) => openRaw(listener.port, from);
  const own = await Promise.all(Array.from({ length: 3 }, () => open("127.0.1.1")));
  await until("three connections", () => listener.connectionCount() === 3);
  await (await open("127.0.1.1")).closed();
  assert.equal(listener.connectionCount(), 3);
  const others = await Promise.all(["127.0.1.2", ...Array<string>(5).fill("127.0.3.1")].map(open));
  await until("everybody else's", () => listener.connectionCount() === 9);
  own[0]!.socket.destroy();
  await until("one that is gone", () => listener.connectionCount() === 8);
  const again = await open("127.0.1.1");
  again.socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  await again.closed();
  assert.match(again.text(), /^HTTP\/1\.1 200 /);
  for (const { socket } of [...own, ...others]) socket.destroy();
});

test("HTTP/1.1: 16 requests may wait for their answers on one connection, and no more", async () => {
  assert.equal(defaultLimits.maxPipelinedRequests, 16);
  let calls = 0;
  await using listener = await startListener({ handler: () => calls++ });
  using peer = await openRaw(listener.port);
  peer.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(16));
  await until("16 calls", () => calls === 16);
  peer.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await peer.closed();
  assert.equal(calls, 16);
});

test("HTTP/1.1: any number of requests may follow each other on one connection", async () => {
  await using listener = await startListener({ handler: (_, response) => response.end() });
  using peer = await openRaw(listener.port);
  for (let round = 1; round <= 5; round++) {
    peer.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(16));
    await until("16 answers", () => peer.text().split("HTTP/1.1 200").length === round * 16 + 1);
  }
});

test("HTTP/2: the stream of an answer that is not read for 30 s is reset; the others go on", async () => {
  const clock = createTestClock();
  await using listener = await startListener({
    clock,
    limits: PERIOD_LIMITS,
    handler: (_, response) => response.end("x".repeat(1_000)),
  });
  using peer = await openRaw(listener.port);
  const window = http2Frame(FrameType.settings, 0, 0, NOTHING_TO_READ);
  peer.socket.write(Buffer.concat([PREFACE, window, settingsAck, postFrame(1), postFrame(3)]));
  await peer.frame(FrameType.headers, 3);
  await sweeps(2);
  clock.advance(29_000);
  await sweeps(2);
  // The third takes a byte, and so gets 30 seconds more.
  peer.socket.write(http2Frame(FrameType.windowUpdate, 0, 3, Buffer.from([0, 0, 3, 0xe8])));
  await peer.frame(FrameType.data, 3);
  clock.advance(1_500);
  const reset = await peer.frame(FrameType.resetStream);
  assert.deepEqual([reset.streamId, reset.payload.readUInt32BE()], [1, http2.constants.NGHTTP2_CANCEL]);
  assert.equal(peer.frames.filter(({ type }) => type === FrameType.resetStream).length, 1);
  assert.equal(listener.connectionCount(), 1);
});

test("HTTP/2: a stream that was answered, and whose body never ends, is closed after 30 s", async () => {
  const clock = createTestClock();
  await using listener = await startListener({
    clock,
    limits: PERIOD_LIMITS,
    handler: (request, response) => request.resume() && response.end("early"),
  });
  using peer = await openRaw(listener.port);
  peer.socket.write(Buffer.concat([opening, postFrame(1, { hasBody: true })]));
  await peer.frame(FrameType.data, 1);
  await sweeps(2);
  clock.advance(30_000);
  const reset = await peer.frame(FrameType.resetStream, 1);
  assert.equal(reset.payload.readUInt32BE(), http2.constants.NGHTTP2_NO_ERROR);
});

test("a peer that reads nothing at all is cut, on both protocols", async () => {
  const clock = createTestClock();
  await using listener = await startListener({
    clock,
    limits: PERIOD_LIMITS,
    handler: (_, response) => response.end(BIG),
  });
  const window = http2Frame(FrameType.settings, 0, 0, Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff]));
  for (const bytes of ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", Buffer.concat([opening, window, postFrame(1)])]) {
    using peer = await openRaw(listener.port);
    peer.socket.pause();
    peer.socket.write(bytes);
    await until("its connection", () => listener.connectionCount() === 1);
    // An answer of 16 MiB may take 1,024 s more than a small one.
    await until("the end of it", () => {
      clock.advance(100_000);
      return listener.connectionCount() === 0;
    });
  }
});

test("a peer that reads slowly keeps its answer", async () => {
  const clock = createTestClock();
  const chunks = 20;
  await using listener = await startListener({
    clock,
    limits: PERIOD_LIMITS,
    async handler(_, response) {
      for (let index = 0; index < chunks; index++) {
        if (!(response as ServerResponse).write(Buffer.alloc(16 * 1024))) await once(response, "drain");
      }
      response.end();
    },
  });
  using peer = await openRaw(listener.port);
  const window = http2Frame(FrameType.settings, 0, 0, NOTHING_TO_READ);
  peer.socket.write(Buffer.concat([opening, window, postFrame(1)]));
  const received = () => peer.frames.reduce((sum, { type, payload }) => sum + (type === 0 ? payload.length : 0), 0);
  for (let index = 0; index < chunks; index++) {
    await sweeps(2);
    clock.advance(5_000);
    peer.socket.write(http2Frame(FrameType.windowUpdate, 0, 1, Buffer.from([0, 0, 0x40, 0])));
    await until("one chunk more", () => received() === (index + 1) * 16 * 1024);
  }
  assert.ok(!peer.frames.some(({ type }) => type === FrameType.resetStream));
});

test("S-H2-13 connections that say nothing are closed after 10 s, and accepting goes on meanwhile", async () => {
  const clock = createTestClock();
  const limits = { ...PERIOD_LIMITS, connectionsPerAddress: 2_000 };
  await using listener = await startListener({ clock, limits });
  const silent = await Promise.all(Array.from({ length: 1_000 }, () => openRaw(listener.port)));
  await until("all of them", () => listener.connectionCount() === 1_000);
  using session = await openHttp2(listener.url);
  assert.equal((await callHttp2(session, "served")).body, "2.0 POST served");
  clock.advance(10_000);
  await Promise.all(silent.map((peer) => peer.closed()));
  await until("only one left", () => listener.connectionCount() === 1);
});

test("takeStream is asked first, and what it leaves becomes a request", async () => {
  const requests: (string | undefined)[] = [];
  await using listener = await startListener({
    handler: (request, response, { address }) => {
      requests.push(request.url);
      response.end(`request ${address}`);
    },
    takeStream(stream, headers, rawHeaders, { address }) {
      assert.ok(rawHeaders.includes(":path"));
      if (headers[":path"] === "/left") return false;
      stream.respond({ ":status": 200 });
      stream.end(`stream ${address}`);
      return true;
    },
  });
  using session = await openHttp2(listener.url);
  assert.equal((await callHttp2(session, "", { ":path": "/taken" })).body, "stream 127.0.0.1");
  assert.equal((await callHttp2(session, "", { ":path": "/left" })).body, "request 127.0.0.1");
  const expecting = { ":path": "/taken", expect: "100-continue" };
  assert.equal((await callHttp2(session, "", expecting)).body, "request 127.0.0.1");
  assert.deepEqual(requests, ["/left", "/taken"]);
});

test("a stream that was taken may break in any way without harm", async () => {
  const taken: http2.ServerHttp2Stream[] = [];
  await using listener = await startListener({
    takeStream: (stream) => {
      taken.push(stream);
      stream.respond({ ":status": 200 });
      return true;
    },
  });
  for (const [index, code] of [0, 1, 2, 8, 11].entries()) {
    using peer = await openRaw(listener.port);
    const reset = http2Frame(FrameType.resetStream, 0, 1, Buffer.from([0, 0, 0, code]));
    peer.socket.write(Buffer.concat([opening, postFrame(1, { hasBody: true })]));
    await until("the stream", () => taken.length === index + 1);
    const closed = once(taken[index]!, "close").catch(() => {});
    peer.socket.write(reset);
    await closed;
  }
});

/** Lets the listener look again, this many times at least. */
async function sweeps(count: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, count * 15));
}
