/**
 * Floods, as one connection or one address sends them: who floods is cut, and somebody else is answered meanwhile. What they
 * cost in time and memory is measured in processes of their own (src/prove/).
 */
import assert from "node:assert/strict";
import type net from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { createTestClock } from "../testing/clock.ts";
import {
  FrameFlag,
  FrameType,
  http2Frame,
  PREFACE,
  postBlock,
  resetStream,
  settingsAck,
  windowUpdate,
} from "../testing/http2-frames.ts";
import { callHttp2, openHttp2, opening, openRaw, postFrame, startListener } from "../testing/listener.ts";
import { until } from "../testing/until.ts";
import { defaultLimits } from "./limits.ts";
import type { Listener } from "./listener.ts";

const CLOSING_LIMIT_MS = 1_000;
const BATCH = 500;
const settings = http2Frame(FrameType.settings, 0, 0);
const openStream = postFrame(1, { hasBody: true });

/** Frames that are sent again and again, with a number that grows by one each time. */
type Flood = { opening?: Buffer; first?: Buffer; frames: (count: number) => Buffer };

const same = (frame: Buffer, first?: Buffer): Flood => ({ first, frames: () => frame });
const literalHeader = Buffer.from([0, 3, ...Buffer.from("x-a"), 3, ...Buffer.from("abc")]);

const floods: Record<string, Flood> = {
  "S-H2-01 a rapid reset": {
    frames: (count) => Buffer.concat([postFrame(2 * count + 1), resetStream(2 * count + 1, 8)]),
  },
  "S-H2-03 CONTINUATION frames that never end": same(
    http2Frame(FrameType.continuation, 0, 1, literalHeader),
    http2Frame(FrameType.headers, 0, 1, postBlock("x", "/", [])),
  ),
  "S-H2-03 empty CONTINUATION frames": same(
    http2Frame(FrameType.continuation, 0, 1),
    http2Frame(FrameType.headers, 0, 1, postBlock("x", "/", [])),
  ),
  "S-H2-06 PING": same(http2Frame(FrameType.ping, 0, 0, Buffer.alloc(8))),
  "S-H2-06 SETTINGS": same(settings),
  "S-H2-06 empty DATA": same(http2Frame(FrameType.data, 0, 1), openStream),
  "S-H2-06 PRIORITY of an idle stream": same(http2Frame(FrameType.priority, 0, 7, Buffer.from([0, 0, 0, 0, 1]))),
  "S-H2-06 PRIORITY of an open stream": same(
    http2Frame(FrameType.priority, 0, 1, Buffer.from([0, 0, 0, 0, 1])),
    openStream,
  ),
  "S-H2-06 WINDOW_UPDATE": { ...same(windowUpdate(0, 1)), opening: Buffer.concat([PREFACE, settings, settingsAck]) },
  "S-H2-06 frames of an unknown type": same(http2Frame(0xbb, 0, 0)),
  "S-H2-06 streams over the limit": { frames: (count) => postFrame(2 * count + 1, { hasBody: true }) },
};

describe("floods over one connection", () => {
  let listener: Listener;
  before(async () => {
    listener = await startListener({ limits: { lingerTimeoutMs: 100 } });
  });
  after(() => listener.drain(0));

  for (const [index, [name, { opening: hello = opening, first, frames }]] of Object.entries(floods).entries()) {
    test(`${name}: the connection is closed within a second or so, and others are served`, async () => {
      using innocent = await openHttp2(listener.url);
      using peer = await openRaw(listener.port, `127.0.1.${index + 1}`);
      peer.socket.write(Buffer.concat([hello, first ?? Buffer.alloc(0)]));
      const startedAt = performance.now();
      const flood = async () => {
        for (let count = 0; !peer.socket.closed; count += BATCH) {
          assert.ok(performance.now() - startedAt < 4 * CLOSING_LIMIT_MS, "it was not closed");
          const batch = Array.from({ length: BATCH }, (_, at) => frames(count + at));
          if (!peer.socket.write(Buffer.concat(batch))) await Promise.race([drained(peer.socket), peer.closed()]);
          await turn();
        }
      };
      const flooded = flood();
      assert.equal((await callHttp2(innocent, "served")).body, "2.0 POST served");
      await flooded;
      assert.equal((await callHttp2(innocent, "still")).body, "2.0 POST still");
    });
  }
});

function drained(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => socket.once("drain", resolve));
}

test("S-H2-02 rapid resets over all the connections of one address: they are cut, everybody else is served", async () => {
  await using listener = await startListener();
  using innocent = await openRaw(listener.port, "127.0.2.1");
  innocent.socket.write(opening);
  const attackers = await Promise.all(Array.from({ length: 300 }, () => openRaw(listener.port, "127.0.1.1")));
  await until("the cap", () => listener.connectionCount() <= defaultLimits.connectionsPerAddress + 1);
  const resets = Buffer.concat(
    Array.from({ length: 1_500 }, (_, index) =>
      Buffer.concat([postFrame(2 * index + 1), resetStream(2 * index + 1, 8)]),
    ),
  );
  for (const { socket } of attackers) socket.write(Buffer.concat([opening, resets]));
  for (let call = 0; call < 50; call++) {
    innocent.socket.write(postFrame(2 * call + 1));
    const { payload } = await innocent.frame(FrameType.data, 2 * call + 1);
    assert.equal(payload.toString(), "2.0 POST ");
  }
  await Promise.all(attackers.map((peer) => peer.closed()));
  await until("the innocent one alone", () => listener.connectionCount() === 1);
});

test("S-H2-05 connections that overflow the window are closed, and nothing of them is kept", async () => {
  await using listener = await startListener({ limits: { lingerTimeoutMs: 100 } });
  const overflow = Buffer.concat([opening, windowUpdate(0, 0x7fff_ffff), windowUpdate(0, 0x7fff_ffff)]);
  for (let round = 0; round < 10; round++) {
    const peers = await Promise.all(Array.from({ length: 10 }, () => openRaw(listener.port)));
    for (const { socket } of peers) socket.write(overflow);
    await Promise.all(peers.map((peer) => peer.closed()));
  }
  await until("no connection", () => listener.connectionCount() === 0);
});

test("what looks like much and is asked for is no flood: large bodies, many requests", async () => {
  const clock = createTestClock();
  const limits = { lingerTimeoutMs: 100, maxControlBytesPerSecond: 1_000 };
  await using listener = await startListener({ clock, limits });
  using session = await openHttp2(listener.url);
  const body = "x".repeat(1024 * 1024);
  for (let second = 0; second < 10; second++) {
    assert.equal((await callHttp2(session, body)).status, 200);
    await Promise.all(Array.from({ length: 50 }, () => callHttp2(session)));
    clock.advance(1_000);
    await delay(20); // it looks every 10 ms
  }
});

test("S-H2-06 flags nobody defined, and padding, are read as RFC 9113 says", async () => {
  await using listener = await startListener();
  using peer = await openRaw(listener.port);
  const padded = Buffer.concat([Buffer.of(3), postBlock("x", "/", []), Buffer.alloc(3)]);
  const flags = FrameFlag.endHeaders | FrameFlag.endStream | 0x08 | 0x40;
  peer.socket.write(Buffer.concat([opening, http2Frame(FrameType.headers, flags, 1, padded)]));
  const { payload } = await peer.frame(FrameType.data, 1);
  assert.equal(payload.toString(), "2.0 POST ");
});
