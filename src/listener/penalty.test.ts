/** What flooding costs the one who does it: every connection of the address, for ten seconds; and whom it does not touch. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import { BlockList } from "node:net";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { createTestClock } from "../testing/clock.ts";
import { FrameType, http2Frame, resetStream, windowUpdate } from "../testing/http2-frames.ts";
import { callHttp2, openHttp2, opening, openRaw, postFrame, startListener } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { defaultLimits } from "./limits.ts";

const FLOODER = "127.0.1.1";
const OTHER = "127.0.2.1";
const CUTS_PER_TURN = 50;
const overflow = Buffer.concat([windowUpdate(0, 0x7fff_ffff), windowUpdate(0, 0x7fff_ffff)]);
const repeated = (count: number, frame: (index: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, index) => frame(index)));

/** What costs an address its connections. */
const floods: Record<string, Buffer> = {
  "a window that overflows": Buffer.concat([opening, overflow]),
  "empty DATA": Buffer.concat([
    opening,
    postFrame(1, { hasBody: true }),
    repeated(2_000, () => http2Frame(FrameType.data, 0, 1)),
  ]),
  PING: Buffer.concat([opening, repeated(20_000, () => http2Frame(FrameType.ping, 0, 0, Buffer.alloc(8)))]),
  "calls that are reset at once": Buffer.concat([
    opening,
    repeated(1_000, (index) => Buffer.concat([postFrame(2 * index + 1), resetStream(2 * index + 1, 8)])),
  ]),
  "HTTP/1.1 requests that do not wait for answers": Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)),
};

for (const [name, bytes] of Object.entries(floods)) {
  test(`S-H2-02 ${name}: the address loses its connections and is kept out for 10 s, others stay`, async () => {
    const clock = createTestClock();
    const flooders: string[] = [];
    await using listener = await startListener({
      clock,
      onFlood: (address) => flooders.push(address),
      handler: () => {},
    });
    // It says what it wants, as whoever does not is cut after a time as long as the penalty.
    using other = await openRaw(listener.port, OTHER);
    other.socket.write(opening);
    await other.frame(FrameType.settings);
    using silent = await openRaw(listener.port, FLOODER);
    using flooding = await openRaw(listener.port, FLOODER);
    await until("all three", () => listener.connectionCount() === 3);
    flooding.socket.write(bytes);
    await Promise.all([flooding.closed(), silent.closed()]);
    assert.deepEqual(flooders, [FLOODER]);
    assert.equal(listener.connectionCount(), 1);
    assert.equal(other.socket.closed, false);

    clock.advance(defaultLimits.floodPenaltyMs - 1);
    await (await openRaw(listener.port, FLOODER)).closed();
    clock.advance(1);
    using again = await openRaw(listener.port, FLOODER);
    await until("it is let in", () => listener.connectionCount() === 2);
    again.socket.write(bytes);
    await again.closed();
    assert.deepEqual(flooders, [FLOODER, FLOODER]);
  });
}

test("a trusted proxy is not kept out, nor is anybody where there is no penalty", async () => {
  const trustedProxies = new BlockList();
  trustedProxies.addAddress("127.0.3.1");
  await using listener = await startListener({ trustedProxies });
  await using lenient = await startListener({ limits: { floodPenaltyMs: 0 } });
  for (const [{ port }, from] of [[listener, "127.0.3.1"] as const, [lenient, FLOODER] as const]) {
    using flooding = await openRaw(port, from);
    flooding.socket.write(Buffer.concat([opening, overflow]));
    await flooding.closed();
    using next = await openRaw(port, from);
    next.socket.write(Buffer.concat([opening, postFrame(1)]));
    await next.frame(FrameType.data, 1);
  }
});

test("who is slow, breaks the protocol, or opens too many streams is cut, but not kept out", async () => {
  const clock = createTestClock();
  await using listener = await startListener({ clock, limits: { lingerTimeoutMs: 100 }, handler: () => {} });
  const breakages = [
    Buffer.concat([opening, http2Frame(FrameType.settings, 0, 1, Buffer.alloc(6))]),
    Buffer.concat([opening, repeated(1_000, (index) => postFrame(2 * index + 1, { hasBody: true }))]),
  ];
  for (const bytes of breakages) {
    using peer = await openRaw(listener.port, FLOODER);
    peer.socket.write(bytes);
    await peer.closed();
  }
  using silent = await openRaw(listener.port, FLOODER);
  await until("it is in", () => listener.connectionCount() === 1);
  clock.advance(defaultLimits.sniffTimeoutMs);
  await silent.closed();
  using next = await openRaw(listener.port, FLOODER);
  await until("it is let in", () => listener.connectionCount() === 1);
  assert.equal(next.socket.closed, false);
});

test("a client that cancels as many calls as it may have, three times over, is no flood", async () => {
  let calls = 0;
  await using listener = await startListener({ handler: () => calls++ });
  using session = await openHttp2(listener.url);
  for (let round = 1; round <= 3; round++) {
    const streams = Array.from({ length: defaultLimits.maxConcurrentStreams }, () => session.request({ ":path": "/" }));
    for (const stream of streams) stream.on("error", () => {});
    await until("they are open", () => calls === round * defaultLimits.maxConcurrentStreams);
    const closed = streams.map((stream) => new Promise((resolve) => stream.once("close", resolve)));
    for (const stream of streams) stream.close(http2.constants.NGHTTP2_CANCEL);
    await Promise.all(closed);
    // Once this is answered, so many more may be opened: the listener has seen the last cancellation.
    await new Promise((resolve) => session.ping(resolve));
  }
  assert.equal(session.closed, false);
  assert.equal(listener.connectionCount(), 1);
});

test("S-H2-01 a call that was reset before anybody looked at it is not made", async () => {
  let calls = 0;
  await using listener = await startListener({
    handler(_, response) {
      calls++;
      response.end("made");
    },
  });
  using peer = await openRaw(listener.port);
  const resets = [0, 8].flatMap((code, index) => {
    const streamId = 1 + 2 * index;
    return [postFrame(streamId, { hasBody: true }), resetStream(streamId, code)];
  });
  peer.socket.write(Buffer.concat([opening, ...resets, postFrame(5)]));
  await peer.frame(FrameType.data, 5);
  assert.equal(calls, 1);
});

test("S-H2-13 a crowd that is late at once is closed a few at a time, so that others are served in between", async () => {
  const clock = createTestClock();
  const limits = { lingerTimeoutMs: 100, connectionsPerAddress: 2_000 };
  await using listener = await startListener({ clock, limits });
  const crowd = await Promise.all(Array.from({ length: 600 }, () => openRaw(listener.port, FLOODER)));
  await until("all of them", () => listener.connectionCount() === 600);
  using session = await openHttp2(listener.url);
  clock.advance(defaultLimits.sniffTimeoutMs);
  const left: number[] = [];
  while (listener.connectionCount() > 1) {
    left.push(listener.connectionCount());
    await turn();
  }
  const most = Math.max(...left.map((count, index) => (left[index - 1] ?? count) - count));
  // Two turns may pass between two looks of ours.
  assert.ok(most <= 2 * CUTS_PER_TURN, `${most} were closed in a turn`);
  assert.equal((await callHttp2(session, "served")).body, "2.0 POST served");
  for (const { socket } of crowd) socket.destroy();
});
