/** The feed at an everyday load: what it costs the writers, and how long an event takes to its readers. */
import { setTimeout as delay } from "node:timers/promises";
import type { Goals } from "../prove/figures.ts";
import { startWorker, usageOf, type Worker } from "../prove/workers.ts";
import { createServiceKey } from "../token/key-making.ts";
import { type FeedDatabase, SERVICE } from "./feed-database.ts";
import type { Arrivals } from "./feed-reader.ts";
import type { Beside, PacedWrites } from "./feed-writers.ts";
import { median, quantile } from "./figures.ts";

const WRITERS = 32;
const LEAST_THROUGHPUT = 0.8;
const WRITES_PER_SECOND = 200;
const READER_P50_MS = 20;
const READER_P99_MS = 100;
const LAST_READER_P99_MS = 250;
const WAITING_READERS = 1_000;
const READER_PROCESSES = 2;
const CONNECTIONS_PER_PROCESS = 5;
/** For the last events to come to their readers. */
const ARRIVAL_MS = 2_000;
const WARM_UP_MS = 1_500;

type Turn = Beside | "feed";
const TURNS: readonly Turn[] = ["nothing", "outbox", "event", "feed"];
const SAID: Record<Turn, string> = {
  nothing: "nothing beside the row",
  outbox: "a plain outbox",
  event: "emit(), and nobody who stamps",
  feed: "the feed",
};

/** Writers as fast as they can, in turns: without anything beside the business row, with a plain outbox, with the feed. */
export async function measureThroughput(database: FeedDatabase, goals: Goals, { isQuick }: { isQuick: boolean }) {
  const [rounds, durationMs] = isQuick ? [4, 1_500] : [8, 2_500];
  await using service = await openService(database);
  const rates = new Map<Turn, number[]>(TURNS.map((turn) => [turn, []]));
  const cpuMs = new Map<Turn, number[]>(TURNS.map((turn) => [turn, []]));
  const settledMs: number[] = [];
  // The first round is there for the code to be compiled.
  for (let round = 0; round <= rounds; round++) {
    for (const turn of round % 2 === 0 ? TURNS : TURNS.toReversed()) {
      const isStamping = turn === "feed";
      if (isStamping) await service.call("keepFeed", { url: database.runtimeUrl });
      const before = usageOf(service.pid).cpuMs;
      const beside = isStamping ? "event" : turn;
      const rate = await service.call<number>("saturate", { beside, writers: WRITERS, durationMs });
      const used = (usageOf(service.pid).cpuMs - before) / ((rate * durationMs) / 1_000);
      if (isStamping) settledMs.push(await service.call<number>("settled"));
      if (isStamping) await service.call("leaveFeed");
      if (round === 0) continue;
      rates.get(turn)!.push(rate);
      cpuMs.get(turn)!.push(used);
    }
  }
  reportThroughput(goals, rates, cpuMs);
  goals.info(`all is stamped ${ms(median(settledMs))} after the last of these commits`);
}

function reportThroughput(goals: Goals, rates: Map<Turn, number[]>, cpuMs: Map<Turn, number[]>): void {
  const ratio = (turn: Turn) => median(rates.get("feed")!.map((rate, round) => rate / rates.get(turn)![round]!));
  const name = `writes of ${WRITERS} writers with the feed, share of those with a plain outbox`;
  goals.atLeast(name, ratio("outbox"), LEAST_THROUGHPUT);
  goals.info(`writes of ${WRITERS} writers, feed/nothing ratio=${ratio("nothing").toFixed(3)}`);
  goals.info(`writes of ${WRITERS} writers, feed/emit-without-stamping ratio=${ratio("event").toFixed(3)}`);
  for (const turn of TURNS) {
    const cpu = median(cpuMs.get(turn)!).toFixed(2);
    goals.info(`with ${SAID[turn]}: writes/s ${each(rates.get(turn)!)}; our process computes ${cpu} ms for each`);
  }
}

/** One reader in another process, and one over the network, while there are so many writes a second. */
export async function measureReaders(database: FeedDatabase, goals: Goals, { isQuick }: { isQuick: boolean }) {
  await using service = startWorker("../bench/feed-service");
  const { url, key } = await serve(service, database);
  await using inProcess = startWorker("../bench/feed-reader");
  await using overRpc = startWorker("../bench/feed-reader");
  await inProcess.call("followLog", { url: database.runtimeUrl });
  await overRpc.call("followRpc", { url, key, readers: 1, connections: 1 });
  await writeSteadily(service, { durationMs: WARM_UP_MS, prefix: "warm" });
  const writes = await writeSteadily(service, { durationMs: isQuick ? 6_000 : 20_000, prefix: "steady" });
  await delay(ARRIVAL_MS);
  for (const [what, reader] of [
    ["FeedLog.read in another process", inProcess],
    ["RPC", overRpc],
  ] as const) {
    const latencies = await latenciesMs(writes, [reader], 1, goals);
    goals.atMost(`commit to reader by ${what}, p50 ms`, quantile(latencies, 0.5), READER_P50_MS);
    goals.atMost(`commit to reader by ${what}, p99 ms`, quantile(latencies, 0.99), READER_P99_MS);
  }
  goals.info(`a write took p50 ${ms(quantile(writes.tookMs, 0.5))} p99 ${ms(quantile(writes.tookMs, 0.99))}`);
}

/** A thousand readers that all wait at one process, over few connections. */
export async function measureWaiting(database: FeedDatabase, goals: Goals, { isQuick }: { isQuick: boolean }) {
  await using opened = new AsyncDisposableStack();
  const service = opened.use(startWorker("../bench/feed-service"));
  const { url, key } = await serve(service, database);
  const workers = Array.from({ length: READER_PROCESSES }, () => opened.use(startWorker("../bench/feed-reader")));
  const load = { url, key, readers: WAITING_READERS / READER_PROCESSES, connections: CONNECTIONS_PER_PROCESS };
  await Promise.all(workers.map((worker) => worker.call("followRpc", load)));
  // Long enough for the code to be compiled.
  await writeSteadily(service, { perSecond: 2, durationMs: 4_000, prefix: "warm" });
  await delay(ARRIVAL_MS);
  await reportIdle(goals, service, workers, isQuick ? 3_000 : 8_000);
  const durationMs = isQuick ? 10_000 : 30_000;
  const writes = await writeSteadily(service, { perSecond: 2, durationMs, prefix: "waiting" });
  await delay(ARRIVAL_MS);
  const latencies = await latenciesMs(writes, workers, WAITING_READERS, goals);
  const name = `commit to the last of ${WAITING_READERS} waiting readers, p99 ms`;
  const raw = `p50 ${ms(quantile(latencies, 0.5))}, in order ${each(latencies)}`;
  goals.atMost(name, quantile(latencies, 0.99), LAST_READER_P99_MS, raw);
}

/** What waiting costs while nothing happens: every reader asks again each second. */
async function reportIdle(goals: Goals, service: Worker, workers: readonly Worker[], durationMs: number) {
  const arrivals = () => Promise.all(workers.map((worker) => worker.call<Arrivals>("arrivals")));
  const cpuMs = () => [service, ...workers].map(({ pid }) => usageOf(pid).cpuMs);
  await arrivals();
  const before = cpuMs();
  await delay(durationMs);
  const [served, ...reading] = cpuMs().map((used, index) => used - before[index]!);
  const reads = (await arrivals()).reduce((sum, answer) => sum + answer.reads, 0);
  const share = (used: number) => `${Math.round((100 * used) / durationMs)} %`;
  const readsPerSecond = Math.round((reads * 1_000) / durationMs);
  const atServer = `${share(served!)} at the server, ${(served! / reads).toFixed(3)} ms a read`;
  const what = `nothing happens, ${WAITING_READERS} wait: ${readsPerSecond} reads/s`;
  goals.info(`${what}; of a processor ${atServer}; ${reading.map(share).join(", ")} at the readers`);
}

/** A process of a service, with its pool. */
export async function openService({ runtimeUrl }: FeedDatabase): Promise<Worker> {
  const service = startWorker("../bench/feed-service");
  await service.call("open", { url: runtimeUrl });
  return service;
}

async function serve(service: Worker, { runtimeUrl }: FeedDatabase) {
  const key = createServiceKey("operator", SERVICE, "operator");
  return { key, url: await service.call<string>("serve", { url: runtimeUrl, key }) };
}

export function writeSteadily(
  service: Worker,
  load: { perSecond?: number; durationMs: number; prefix: string },
): Promise<PacedWrites> {
  return service.call("writeSteadily", { perSecond: WRITES_PER_SECOND, ...load });
}

/** From each commit to the last of so many readers. An event that did not come to all of them counts as never. */
export async function latenciesMs(
  writes: PacedWrites,
  workers: readonly Worker[],
  readers: number,
  goals: Goals,
): Promise<number[]> {
  const answers = workers.map((worker) => worker.call<Arrivals>("arrivals"));
  const seen = new Map<string, { last: number; readers: number }>();
  for (const { arrivals, failures } of await Promise.all(answers)) {
    if (failures > 0) goals.info(`${failures} reads failed`);
    for (const [subject, at, count] of arrivals) {
      const known = seen.get(subject) ?? { last: 0, readers: 0 };
      seen.set(subject, { last: Math.max(known.last, at), readers: known.readers + count });
    }
  }
  if (writes.failures > 0) goals.info(`${writes.failures} writes failed`);
  return writes.committedAt.map(([subject, committed]) => {
    const arrival = seen.get(subject);
    if (arrival?.readers !== readers) return Number.POSITIVE_INFINITY;
    // Whoever stamps may be faster than the answer to COMMIT.
    return Math.max(0, arrival.last - committed);
  });
}

export function ms(value: number): string {
  return `${value.toFixed(1)} ms`;
}

function each(values: readonly number[]): string {
  return values.map((value) => Math.round(value)).join(" ");
}
