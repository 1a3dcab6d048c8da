/**
 * What one person may do only so often a day, wherever they do it: who leaves, or deletes, an organization and makes
 * another one does not begin anew.
 */
import { sql } from "drizzle-orm";
import type { Db, Tx } from "../../db/database.ts";
import type { Job } from "../../jobs.ts";
import { personCounters } from "./schema.ts";

type Counted = (typeof personCounters.$inferSelect)["what"];

const MOST_PER_DAY: Record<Counted, number> = { invitations: 100, organizations: 20 };
const KEEP_DAYS = 2;
const SWEEP_MS = 3_600_000;
const SWEEP_ROWS = 1_000;

const today = sql`((select concierge_now()) at time zone 'UTC')::date`;

/** Counts one more, if the transaction commits; false if the person has had enough of it today. */
export async function countFor(tx: Tx, userId: string, what: Counted): Promise<boolean> {
  const counted = await tx.execute(sql`
    insert into ${personCounters} as counter (user_id, what, day, count) values (${userId}, ${what}, ${today}, 1)
    on conflict (user_id, what, day) do update set count = counter.count + 1
    where counter.count < ${MOST_PER_DAY[what]}
    returning 1`);
  return counted.length === 1;
}

/** The job that deletes what was counted on days that are over, in small batches. */
export function sweepPersonCounters(jobDb: Db): Job {
  const statement = sql`
    delete from ${personCounters} where (user_id, what, day) in (
      select user_id, what, day from ${personCounters} where day < ${today} - ${KEEP_DAYS}::integer
      limit ${SWEEP_ROWS} for update skip locked)
    returning 1`;
  return {
    name: "delete old counters of people",
    everyMs: SWEEP_MS,
    async run(signal) {
      while (!signal.aborted && (await jobDb.execute(statement)).length === SWEEP_ROWS);
    },
  };
}
