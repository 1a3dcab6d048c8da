/**
 * A snapshot held open, as a dump does, while many events are stamped (R-OBX-15): nothing that they leave behind can be removed,
 * and the feed must not become slow from passing it.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { connect, connectOnce } from "../db/connection.ts";
import type { Goals } from "../prove/figures.ts";
import { startWorker, type Worker } from "../prove/workers.ts";
import { insertPending, timed } from "./feed-backlog.ts";
import type { FeedDatabase } from "./feed-database.ts";
import { costOf } from "./feed-explained.ts";
import { latenciesMs, ms, openService, writeSteadily } from "./feed-live.ts";
import type { Arrivals } from "./feed-reader.ts";
import { quantile } from "./figures.ts";

const BOUND_MS = 100;
const BATCH = 10_000;
/** As services do it. */
const STAMP_AT_ONCE = 1_000;
/** So many calls of a connection plan their statements; those after them keep the plan, as the feed's own connections do. */
const PLANNING_CALLS = 6;
const POLL_MS = 20;
const ARRIVAL_MS = 1_000;

export async function measureSnapshot(
  database: FeedDatabase,
  goals: Goals,
  { events, isQuick }: { events: number; isQuick: boolean },
) {
  const sql = connect(database.adminUrl, { applicationName: "bench" });
  const holder = connectOnce(database.adminUrl, { applicationName: "bench" });
  await using service = await openService(database);
  await service.call("keepFeed", { url: database.runtimeUrl });
  await using reader = startWorker("../bench/feed-reader");
  await reader.call("followLog", { url: database.runtimeUrl });
  await writeSteadily(service, { durationMs: 1_000, prefix: "warm" });
  const steadyMs = isQuick ? 4_000 : 10_000;
  const measure = (when: string) => measureOnce({ sql, service, reader, goals, steadyMs }, when);
  await measure("before the snapshot");
  await holder`begin isolation level repeatable read`;
  await holder`select count(*) from feed_state`;
  await writeAndStamp(sql, goals, events);
  const p99 = await measure("with the snapshot held");
  goals.atMost(`R-OBX-15 ${events} stamped under a held snapshot: commit to reader, p99 ms`, p99, BOUND_MS);
  await holder`rollback`;
  await holder.end();
  goals.info(`vacuum took ${ms(await timed(() => sql`vacuum feed_outbox`))}`);
  await measure("after the snapshot and a vacuum");
  await sql.end();
}

async function writeAndStamp(sql: Sql, goals: Goals, events: number): Promise<void> {
  const took = await timed(async () => {
    for (let stamped = 0; stamped < events; stamped += BATCH) {
      await insertPending(sql, BATCH);
      for (let part = 0; part < BATCH; part += STAMP_AT_ONCE) await sql`select feed_stamp(${STAMP_AT_ONCE}::int)`;
    }
  });
  const [table] = await sql`select n_dead_tup::int as dead from pg_stat_user_tables where relname = 'feed_outbox'`;
  goals.info(`${events} events written and stamped under a held snapshot in ${ms(took)}, ${table!.dead} dead rows`);
}

interface Measured {
  sql: Sql;
  service: Worker;
  reader: Worker;
  goals: Goals;
  steadyMs: number;
}

/** Prints how long events take to the reader, and what the feed's functions cost; returns the p99 in ms. */
async function measureOnce({ sql, service, reader, goals, steadyMs }: Measured, when: string): Promise<number> {
  const latencies = await readSteadily(service, reader, steadyMs, goals);
  const looks = await pagesOf(sql, "select * from feed_look()");
  const stamps = await pagesOf(sql, `select feed_stamp(${STAMP_AT_ONCE})`);
  const [p50, p99] = [quantile(latencies, 0.5), quantile(latencies, 0.99)];
  goals.info(`${when}: commit to reader p50 ${ms(p50)} p99 ${ms(p99)}`);
  goals.info(`${when}: pages of feed_look ${looks}, of feed_stamp with nothing to do ${stamps}`);
  return p99;
}

async function pagesOf(sql: Sql, statement: string): Promise<string> {
  for (let call = 0; call < PLANNING_CALLS; call++) await costOf(sql, statement);
  const { pages, ms: took } = await costOf(sql, statement);
  return `${pages} (${ms(took)})`;
}

let turn = 0;

/** Resolves when the reader has read past everything that is there. */
async function caughtUp(service: Worker, reader: Worker): Promise<void> {
  const prefix = `marker-${turn++}`;
  await writeSteadily(service, { perSecond: 1, durationMs: 1_000, prefix });
  for (;;) {
    const { arrivals } = await reader.call<Arrivals>("arrivals");
    if (arrivals.some(([subject]) => subject.startsWith(prefix))) return;
    await delay(POLL_MS);
  }
}

async function readSteadily(service: Worker, reader: Worker, durationMs: number, goals: Goals): Promise<number[]> {
  await service.call("settled");
  await caughtUp(service, reader);
  const writes = await writeSteadily(service, { durationMs, prefix: `snapshot-${turn++}` });
  await delay(ARRIVAL_MS);
  return latenciesMs(writes, [reader], 1, goals);
}
