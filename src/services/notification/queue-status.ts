/**
 * What waits and what was given up, for operators and for whoever watches the gauges. Every count stops at 100,000, so that
 * looking costs little just when much waits.
 */
import { sql } from "drizzle-orm";
import { type Db, during } from "../../db/database.ts";
import type { Job } from "../../jobs.ts";
import type { Gauge } from "../../telemetry/metrics.ts";
import { deadLetters, deliveries } from "./schema.ts";

export interface QueueStatus {
  /** Not processed; of these, some are under a lease, and some wait for another try. */
  pending: number;
  leased: number;
  waitingForRetry: number;
  /** When the oldest of them was created. */
  oldestCreatedAt: Date | undefined;
  /** How long ago that was, by the database's clock; 0 if there is none. */
  oldestAgeSeconds: number;
  /** What was given up last, by code. */
  deadByCode: Record<string, number>;
}

const MAX_COUNTED = 100_000;
const GAUGE_REFRESH_MS = 15_000;

export async function readQueueStatus(db: Db): Promise<QueueStatus> {
  const [waiting] = await db.execute<{
    pending: number;
    leased: number;
    waitingForRetry: number;
    oldestCreatedAt: string | null;
    oldestAgeSeconds: number;
  }>(sql`
    with counted as materialized (select lease_owner, available_at from ${deliveries} limit ${MAX_COUNTED}),
    oldest as materialized (select created_at from ${deliveries} order by created_at limit 1)
    select count(*)::integer as pending,
      (count(*) filter (where lease_owner is not null and available_at > moment.now))::integer as leased,
      (count(*) filter (where lease_owner is null and available_at > moment.now))::integer as "waitingForRetry",
      (select created_at from oldest) as "oldestCreatedAt",
      coalesce((select greatest(extract(epoch from concierge_now() - created_at), 0) from oldest), 0)::float8 as "oldestAgeSeconds"
    from counted, (select concierge_now() as now) moment`);
  const dead = await db.execute<{ code: string; count: number }>(sql`
    select code, count(*)::integer as count
    from (select code from ${deadLetters} order by died_at desc limit ${MAX_COUNTED}) newest group by code`);
  const { oldestCreatedAt, ...rest } = waiting!;
  return {
    ...rest,
    oldestCreatedAt: oldestCreatedAt === null ? undefined : new Date(oldestCreatedAt),
    deadByCode: Object.fromEntries(dead.map(({ code, count }) => [code, count])),
  };
}

/** What /metrics shows of it, and the job that keeps it some seconds old at most. */
export function watchQueue(db: Db): { gauges: Gauge[]; job: Job } {
  let status = { pending: 0, oldestAgeSeconds: 0, deadByCode: {} as Record<string, number> };
  const deadCount = () => Object.values(status.deadByCode).reduce((total, count) => total + count, 0);
  return {
    gauges: [
      {
        name: "notification_pending_recipients",
        help: "Recipients that are not processed, up to 100,000",
        read: () => status.pending,
      },
      {
        name: "notification_oldest_pending_seconds",
        help: "Age of the oldest notification that is not pushed to everybody yet; 0 if there is none",
        read: () => status.oldestAgeSeconds,
      },
      { name: "notification_dead_letters", help: "Recipients that were given up, up to 100,000", read: deadCount },
    ],
    job: {
      name: "look at the queue",
      everyMs: GAUGE_REFRESH_MS,
      async run(signal) {
        status = await readQueueStatus(during(db, signal));
      },
    },
  };
}
