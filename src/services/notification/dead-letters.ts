/**
 * Dead letters: recipients that were given up, kept until somebody lets them be tried again. A recipient is a dead letter or
 * waits to be pushed, never both.
 */
import { and, desc, eq, type SQL, sql } from "drizzle-orm";
import { validate as isUuid } from "uuid";
import { type Db, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import { type PageRequest, pageOf, pageSizeOf, readPageToken } from "../../page-tokens.ts";
import type { CallScope } from "../../rpc/call.ts";
import { lockRecipients } from "./accounts.ts";
import { notificationCreated } from "./events.ts";
import { deadLetters, deliveries, notifications, recipients } from "./schema.ts";

export interface DeadLetter {
  notificationId: string;
  userId: string;
  /** Empty if the notification comes from none. */
  organizationId: string;
  code: string;
  failedTries: number;
  diedAt: Date;
}

const MAX_REDRIVEN = 1_000;

/** Microseconds since 1970: a Date would drop what tells neighbours apart. */
const diedAtUs = sql<string>`(extract(epoch from ${deadLetters.diedAt}) * 1000000)::bigint::text`;
const MICROSECONDS = /^\d{1,16}$/;

/** One page, the last one first; an empty code fits every one. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listDeadLetters(
  db: Db,
  { code, ...request }: PageRequest & { code: string },
): Promise<{ entries: DeadLetter[]; nextPageToken: string }> {
  const list = ["dead letters", code];
  const key = readPageToken(list, request, ([at = "", ...ids]) => {
    return MICROSECONDS.test(at) && ids.length === 2 && ids.every((id) => isUuid(id));
  });
  const { notificationId, userId, failedTries, diedAt } = deadLetters;
  const { organizationId } = notifications;
  const found = await db
    .select({ notificationId, userId, organizationId, code: deadLetters.code, failedTries, diedAt, diedAtUs })
    .from(deadLetters)
    .innerJoin(notifications, eq(notifications.id, notificationId))
    .where(and(code === "" ? undefined : eq(deadLetters.code, code), key && isBefore(key)))
    .orderBy(desc(diedAt), desc(notificationId), desc(userId))
    .limit(pageSizeOf(request) + 1);
  const page = pageOf(list, request, found, (last) => [last.diedAtUs, last.notificationId, last.userId]);
  const entries = page.entries.map(({ organizationId, diedAtUs, ...letter }) => {
    return { ...letter, organizationId: organizationId ?? "" };
  });
  return { entries, nextPageToken: page.nextPageToken };
}

function isBefore([at, ...ids]: string[]): SQL {
  const { diedAt, notificationId, userId } = deadLetters;
  return sql`(${diedAt}, ${notificationId}, ${userId})
    < ('epoch'::timestamptz + ${at}::bigint * interval '1 microsecond', ${ids[0]}::uuid, ${ids[1]}::uuid)`;
}

/**
 * Lets up to 1,000 recipients be tried again from the beginning, the oldest dead letters first; returns how many. Empty fields
 * fit everything. What is too old to be pushed stays dead, and so does what is cancelled.
 */
export async function redriveDeadLetters(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  which: { notificationId: string; code: string },
): Promise<number> {
  const isWanted = and(
    sql`n.expires_at > (select concierge_now()) and n.cancelled_at is null`,
    which.notificationId === "" ? undefined : sql`l.notification_id = ${which.notificationId}`,
    which.code === "" ? undefined : sql`l.code = ${which.code}`,
  );
  return transaction(
    db,
    async (tx) => {
      await lockRecipients(tx);
      const redriven = await tx.execute<{ notificationId: string; organizationId: string | null }>(sql`
        with chosen as (
          select l.notification_id, l.user_id from ${deadLetters} l
          join ${notifications} n on n.id = l.notification_id
          join ${recipients} r on r.notification_id = l.notification_id and r.user_id = l.user_id
          where ${isWanted}
          order by l.died_at, l.notification_id, l.user_id limit ${MAX_REDRIVEN} for update of l, r skip locked
        ), gone as (
          delete from ${deadLetters} l using chosen c
          where l.notification_id = c.notification_id and l.user_id = c.user_id returning l.*
        ), queued as (
          insert into ${deliveries} (notification_id, user_id, queue, rank, created_at, available_at)
          select notification_id, user_id, queue, rank, created_at, concierge_now() from gone
        )
        update ${recipients} r set processed_at = null, outcome = null, code = null, failed_tries = 0,
          lease_owner = null, lease_token = null
        from gone join ${notifications} n on n.id = gone.notification_id
        where r.notification_id = gone.notification_id and r.user_id = gone.user_id
        returning r.notification_id as "notificationId", n.organization_id as "organizationId"`);
      // So that senders wake up.
      const origins = new Map(redriven.map(({ notificationId, organizationId }) => [notificationId, organizationId]));
      const events = [...origins].map(([id, organizationId]) => notificationCreated(id, organizationId ?? ""));
      await emit(tx, events);
      return redriven.length;
    },
    { signal },
  );
}
