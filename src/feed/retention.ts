/** How long events are kept: the oldest are deleted in small batches, whoever has not read them yet. */
import { sql } from "drizzle-orm";
import type { Db } from "../db/database.ts";
import type { Job } from "../jobs.ts";

const EVERY_MS = 60_000;
const DELETED_AT_ONCE = 1_000;

/** The job that deletes what is older than `keepHours`. */
export function trimFeed(db: Db, keepHours: number): Job {
  return {
    name: "trim feed",
    everyMs: EVERY_MS,
    async run(signal) {
      while (!signal.aborted && (await trimOnce(db, keepHours)) > 0);
    },
  };
}

/** Deletes the oldest events, at most 1,000; returns how many. */
export async function trimOnce(db: Db, keepHours: number): Promise<number> {
  const [row] = await db.execute<{ deleted: number }>(
    sql`select feed_trim(concierge_now() - make_interval(hours => ${keepHours}::integer), ${DELETED_AT_ONCE}::integer) as deleted`,
  );
  return row!.deleted;
}
