/**
 * How long notifications are kept: the oldest are deleted in small batches, with their recipients and dead letters. What is still
 * to be pushed is kept until it is processed.
 */
import { type SQL, sql } from "drizzle-orm";
import type { Db } from "../../db/database.ts";
import type { Job } from "../../jobs.ts";
import { deadLetters, deliveries, notifications, recipients } from "./schema.ts";

const EVERY_MS = 60_000;
const AT_ONCE = 500;
/** A notification may be for 10,000: they go before it, or one statement would have to delete them all. */
const RECIPIENTS_AT_ONCE = 5_000;

/** The job that deletes what is older than `keepDays`; 0 keeps everything. */
export function deleteOldNotifications(db: Db, keepDays: number): Job {
  return {
    name: "delete old notifications",
    everyMs: EVERY_MS,
    async run(signal) {
      if (keepDays === 0) return;
      const batch = oldestBefore(keepDays);
      do while (!signal.aborted && (await deleteRecipients(db, batch)) === RECIPIENTS_AT_ONCE);
      while (!signal.aborted && (await deleteNotifications(db, batch)) > 0);
    },
  };
}

/** The first UUID v7 of that millisecond: ids are in the order of time, so the primary key finds what is old. */
function firstIdOf(time: SQL): SQL {
  return sql`rpad(lpad(to_hex((extract(epoch from ${time}) * 1000)::bigint), 12, '0'), 32, '0')::uuid`;
}

function oldestBefore(keepDays: number): SQL {
  const time = sql`concierge_now() - make_interval(days => ${keepDays}::integer)`;
  return sql`
    select n.id from ${notifications} n
    where n.id < (select ${firstIdOf(time)})
      and not exists (select from ${deliveries} d where d.notification_id = n.id)
    order by n.id limit ${AT_ONCE}`;
}

/** Whom a redrive lets wait again at this moment is left out, as is whatever is locked. */
async function deleteRecipients(db: Db, batch: SQL): Promise<number> {
  const deleted = await db.execute(sql`
    with old as materialized (${batch}), chosen as (
      select r.notification_id, r.user_id from old join ${recipients} r on r.notification_id = old.id
      where r.processed_at is not null limit ${RECIPIENTS_AT_ONCE} for update of r skip locked
    ), dead as (
      delete from ${deadLetters} l using chosen c where l.notification_id = c.notification_id and l.user_id = c.user_id
    )
    delete from ${recipients} r using chosen c where r.notification_id = c.notification_id and r.user_id = c.user_id`);
  return deleted.count;
}

async function deleteNotifications(db: Db, batch: SQL): Promise<number> {
  const deleted = await db.execute(sql`
    with old as materialized (${batch})
    delete from ${notifications} n using old
    where n.id = old.id and not exists (select from ${recipients} r where r.notification_id = n.id)`);
  return deleted.count;
}
