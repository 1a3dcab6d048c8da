/**
 * Worker: the client that nothing should happen to. Sends calls at a fixed rate, whatever the answers do (an open loop): most
 * over gRPC on a few HTTP/2 connections, some over Connect on HTTP/1.1. A latency counts from the moment at which the call was
 * due, and an answer only if it is the right one.
 */

import { quantile } from "../bench/figures.ts";
import { systemClock } from "../clock.ts";
import { GrpcConnection } from "./grpc-connection.ts";
import { HttpConnections } from "./http-connections.ts";
import { answerCommands } from "./workers.ts";

export interface InnocentTarget {
  port: number;
  path: string;
  accessToken: string;
}

export interface InnocentRun {
  sent: number;
  /** Share of calls with the right answer. */
  success: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** How late calls were sent, at the 99th percentile: the generator's own part of the latencies. */
  lagP99Ms: number;
}

/** Of five calls, one goes over HTTP/1.1. */
const HTTP1_SHARE = 5;
const ADDRESSES = ["127.0.2.1", "127.0.2.2", "127.0.2.3", "127.0.2.4"];
const PATIENCE_MS = 10_000;
const TICK_MS = 1;

let grpc: GrpcConnection[] = [];
let http: HttpConnections | undefined;

/** Sends `callsPerSecond` for `durationMs`, then waits for the last answers. */
async function run(callsPerSecond: number, durationMs: number): Promise<InnocentRun> {
  const total = Math.round((callsPerSecond * durationMs) / 1000);
  const startedAt = systemClock.monotonic();
  const latenciesMs: number[] = [];
  const lagsMs: number[] = [];
  let answered = 0;
  let wrong = 0;
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const send = (index: number) => {
    const dueAt = startedAt + (index * 1000) / callsPerSecond;
    lagsMs.push(systemClock.monotonic() - dueAt);
    const onAnswer = (isRight: boolean) => {
      latenciesMs.push(systemClock.monotonic() - dueAt);
      if (!isRight) wrong++;
      if (++answered === total) resolve();
    };
    if (index % HTTP1_SHARE === 0) http!.call(onAnswer);
    else grpc[index % grpc.length]!.call(onAnswer);
  };
  let next = 0;
  const timer = setInterval(() => {
    const due = Math.min(total, Math.ceil(((systemClock.monotonic() - startedAt) * callsPerSecond) / 1000));
    while (next < due) send(next++);
    if (next === total) clearInterval(timer);
  }, TICK_MS);
  const patience = setTimeout(resolve, durationMs + PATIENCE_MS);
  await done;
  clearTimeout(patience);
  const success = (answered - wrong) / total;
  // Calls without an answer took longer than all others.
  for (let missing = total - answered; missing > 0; missing--) latenciesMs.push(PATIENCE_MS);
  return {
    sent: total,
    success,
    p50Ms: quantile(latenciesMs, 0.5),
    p99Ms: quantile(latenciesMs, 0.99),
    maxMs: Math.max(...latenciesMs),
    lagP99Ms: quantile(lagsMs, 0.99),
  };
}

answerCommands({
  async open(target: InnocentTarget) {
    http = new HttpConnections(target, ADDRESSES);
    grpc = ADDRESSES.map((address) => new GrpcConnection(target, address));
  },
  run: ({ callsPerSecond, durationMs }: { callsPerSecond: number; durationMs: number }) =>
    run(callsPerSecond, durationMs),
});
