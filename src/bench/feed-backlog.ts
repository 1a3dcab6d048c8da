/** Many committed events that nobody has stamped yet (R-OBX-09): how long until they are, and what the writers notice of it. */
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { connect } from "../db/connection.ts";
import type { Goals } from "../prove/figures.ts";
import { type FeedDatabase, machineMs } from "./feed-database.ts";
import { explainStamp } from "./feed-explained.ts";
import { ms, openService, writeSteadily } from "./feed-live.ts";
import { quantile } from "./figures.ts";

const CLAIM_P99_MS = 20;
const CLAIMED_AT_ONCE = 1_000;
const CLAIMS = 60;
/** How much longer a write may take meanwhile. */
const MOST_SLOWER = 1.1;
const STEADY_MS = 5_000;
const DRAIN_LIMIT_MS = 120_000;
const SAMPLE_MS = 10;

export async function measureBacklog(database: FeedDatabase, goals: Goals, { events }: { events: number }) {
  const sql = connect(database.adminUrl, { applicationName: "bench" });
  const before = await beforehand(database);
  const inserted = await timed(() => insertPending(sql, events));
  const [last] = await sql<{ id: string }[]>`select max(id)::text as id from feed_outbox`;
  goals.info(`${events} events pending, inserted by one transaction in ${ms(inserted)}`);
  await measureClaims(sql, goals, events);

  await using service = await openService(database);
  await writeSteadily(service, { durationMs: 1_000, prefix: "warm" });
  await service.call("keepFeed", { url: database.runtimeUrl });
  const draining = drain(sql, last!.id);
  const meanwhile: number[] = [];
  let drained: Drained | undefined;
  void draining.then((result) => {
    drained = result;
  });
  for (let turn = 0; !drained; turn++) {
    const { tookMs, failures } = await writeSteadily(service, { durationMs: 1_000, prefix: `meanwhile-${turn}` });
    meanwhile.push(...tookMs);
    if (failures > 0) goals.info(`${failures} writes failed`);
  }
  const { tookMs, longestCallMs, left } = await draining;
  goals.atMost(`${events} pending: events left without a position`, left, 0);
  goals.info(`${events} pending: all stamped after ${ms(tookMs)}; the longest call took about ${ms(longestCallMs)}`);
  const [quiet, busy] = [quantile(before, 0.99), quantile(meanwhile, 0.99)];
  const medians = `${ms(quantile(before, 0.5))}, ${ms(quantile(meanwhile, 0.5))}`;
  const raw = `p99 ${ms(quiet)} before, ${ms(busy)} meanwhile; p50 ${medians}`;
  goals.ratioAtMost(`R-OBX-09 ${events} pending: write p99, meanwhile/before`, busy / quiet, MOST_SLOWER, raw);
  await sql.end();
}

/** How long writes take while the feed has nothing to catch up with. */
async function beforehand(database: FeedDatabase): Promise<number[]> {
  await using service = await openService(database);
  await service.call("keepFeed", { url: database.runtimeUrl });
  await writeSteadily(service, { durationMs: 1_500, prefix: "warm" });
  const { tookMs } = await writeSteadily(service, { durationMs: STEADY_MS, prefix: "before" });
  await service.call("settled");
  return tookMs;
}

/** Committed events as emit() writes them, but for the versions of their subjects; of a type that no reader here asks for. */
export async function insertPending(sql: Sql, events: number): Promise<void> {
  await sql`
    insert into feed_outbox (type, subject, version, payload)
    select 'concierge.user.v1.Backlog', 'backlog/' || n, 1, convert_to(repeat('x', 90), 'UTF8')
    from generate_series(1, ${events}::int) n`;
}

/** The stamping call for a thousand, while everything waits. */
async function measureClaims(sql: Sql, goals: Goals, events: number): Promise<void> {
  const took: number[] = [];
  // The first call of a connection plans its statements.
  await sql`select feed_stamp(${CLAIMED_AT_ONCE}::int)`;
  const claims = Math.min(CLAIMS, events / CLAIMED_AT_ONCE / 2);
  for (let index = 0; index < claims; index++) {
    took.push(await timed(() => sql`select feed_stamp(${CLAIMED_AT_ONCE}::int)`));
  }
  const p99 = quantile(took, 0.99);
  const name = `R-OBX-09 ${events} pending: feed_stamp of ${CLAIMED_AT_ONCE}, p99 ms`;
  goals.atMost(name, p99, CLAIM_P99_MS, `p50 ${ms(quantile(took, 0.5))}, ${took.length} calls`);
  if (p99 > CLAIM_P99_MS) for (const line of await explainStamp(sql, CLAIMED_AT_ONCE)) goals.info(line);
}

interface Drained {
  tookMs: number;
  longestCallMs: number;
  /** Events of the backlog without a position, when it was given up. */
  left: number;
}

/** Watches from outside until the event with this id has its position: they are given in the order of ids. */
async function drain(sql: Sql, lastId: string): Promise<Drained> {
  const start = machineMs();
  let longestCallMs = 0;
  let isStamped = false;
  while (!isStamped && machineMs() - start < DRAIN_LIMIT_MS) {
    const [call] = await sql<{ ms: number | null }[]>`
      select max(extract(epoch from clock_timestamp() - query_start) * 1000)::float8 as ms from pg_stat_activity
      where query like 'select feed_stamp%' and state = 'active' and datname = current_database()`;
    longestCallMs = Math.max(longestCallMs, call?.ms ?? 0);
    const [last] = await sql`select position is not null as stamped from feed_outbox where id = ${lastId}`;
    isStamped = last?.stamped === true;
    if (!isStamped) await delay(SAMPLE_MS);
  }
  const tookMs = machineMs() - start;
  const [row] = await sql`select count(*)::int as left from feed_outbox where position is null and id <= ${lastId}`;
  return { tookMs, longestCallMs, left: row!.left as number };
}

export async function timed(work: () => PromiseLike<unknown>): Promise<number> {
  const start = machineMs();
  await work();
  return machineMs() - start;
}
