/**
 * Worker: many clients at once, over many connections. In a closed loop, each answer is followed by the next call, which
 * shows what the server can do; in an open loop calls come at their rate, whatever becomes of those before. A latency counts
 * from the moment at which a call was due.
 */

import { quantile } from "../bench/figures.ts";
import { systemClock } from "../clock.ts";
import { GrpcConnection } from "./grpc-connection.ts";
import { answerCommands } from "./workers.ts";

/** One second of an open loop, by when its calls were due. */
export interface Second {
  due: number;
  /** Right answers within the clients' patience. */
  good: number;
  goodP50Ms: number;
  goodP99Ms: number;
  /** Answered with an error. */
  refused: number;
  refusedP50Ms: number;
  refusedP99Ms: number;
  /** Right but too late, cut off, or never answered. */
  lost: number;
  /** How late calls were sent, at the 99th percentile: the generator's own part. */
  lagP99Ms: number;
}

/** As many streams as a connection may have open. */
const CALLS_PER_CONNECTION = 100;
/** An answer that comes later than this is of no use to the caller. */
const PATIENCE_MS = 1_000;
const LAST_ANSWERS_MS = 5_000;

let connections: GrpcConnection[] = [];

/** Keeps this many calls open; answers how many a second were answered right. */
async function saturate(openCalls: number, durationMs: number): Promise<number> {
  const startedAt = systemClock.monotonic();
  let right = 0;
  let open = 0;
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const next = (connection: GrpcConnection) => {
    open++;
    connection.call((isRight) => {
      open--;
      if (isRight) right++;
      if (systemClock.monotonic() - startedAt < durationMs) next(connection);
      else if (open === 0) resolve();
    });
  };
  for (let count = 0; count < openCalls; count++) next(connections[count % connections.length]!);
  await done;
  return (right * 1_000) / (systemClock.monotonic() - startedAt);
}

class SecondCount {
  due = 0;
  readonly lagsMs: number[] = [];
  readonly goodMs: number[] = [];
  readonly refusedMs: number[] = [];

  summary(): Second {
    const { due, lagsMs, goodMs, refusedMs } = this;
    return {
      due,
      good: goodMs.length,
      goodP50Ms: quantile(goodMs, 0.5),
      goodP99Ms: quantile(goodMs, 0.99),
      refused: refusedMs.length,
      refusedP50Ms: quantile(refusedMs, 0.5),
      refusedP99Ms: quantile(refusedMs, 0.99),
      lost: due - goodMs.length - refusedMs.length,
      lagP99Ms: quantile(lagsMs, 0.99),
    };
  }
}

/** Sends calls at a rate for whole seconds. A call for which no connection has room is lost. */
async function sendAtRate(callsPerSecond: number, seconds: number): Promise<Second[]> {
  const counts = Array.from({ length: seconds }, () => new SecondCount());
  const total = callsPerSecond * seconds;
  const startedAt = systemClock.monotonic();
  let sent = 0;
  let open = 0;
  const send = (connection: GrpcConnection | undefined, index: number) => {
    const dueAt = startedAt + (index * 1_000) / callsPerSecond;
    const count = counts[Math.floor(index / callsPerSecond)]!;
    count.due++;
    count.lagsMs.push(systemClock.monotonic() - dueAt);
    if (!connection) return;
    open++;
    connection.call((isRight, isRefused) => {
      open--;
      const tookMs = systemClock.monotonic() - dueAt;
      if (isRight && tookMs <= PATIENCE_MS) count.goodMs.push(tookMs);
      if (isRefused) count.refusedMs.push(tookMs);
    });
  };
  let turn = 0;
  const withRoom = () => {
    for (let tries = 0; tries < connections.length; tries++) {
      const connection = connections[turn++ % connections.length]!;
      if (connection.openCalls < CALLS_PER_CONNECTION) return connection;
    }
    return undefined;
  };
  while (sent < total) {
    const due = Math.min(total, Math.ceil(((systemClock.monotonic() - startedAt) * callsPerSecond) / 1_000));
    while (sent < due) {
      const connection = withRoom();
      const room = connection ? CALLS_PER_CONNECTION - connection.openCalls : due - sent;
      const end = Math.min(due, sent + room, sent + MOST_TOGETHER);
      const sendSome = () => {
        while (sent < end) send(connection, sent++);
      };
      if (connection) connection.together(sendSome);
      else sendSome();
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const lastAt = systemClock.monotonic();
  while (open > 0 && systemClock.monotonic() - lastAt < LAST_ANSWERS_MS) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return counts.map((count) => count.summary());
}

/** A few calls of the same moment go together; more would make a burst of one client. */
const MOST_TOGETHER = 10;

answerCommands({
  open({ count, ...target }: { count: number; port: number; path: string; accessToken: string }) {
    for (const connection of connections) connection.close();
    connections = Array.from({ length: count }, () => new GrpcConnection(target, "127.0.3.1"));
  },
  saturate: ({ openCalls, durationMs }: { openCalls: number; durationMs: number }) => saturate(openCalls, durationMs),
  sendAtRate: ({ callsPerSecond, seconds }: { callsPerSecond: number; seconds: number }) =>
    sendAtRate(callsPerSecond, seconds),
});
