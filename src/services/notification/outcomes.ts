/**
 * Outcomes: how the work for a recipient ends. Its delivery goes, the recipient tells what became of it, and what was given
 * up becomes a dead letter, in one statement; so a recipient is processed exactly when nothing is left to do for it.
 */
import { sql } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import type { OutboxEvent } from "../../feed/emit.ts";
import { notificationCancelled, notificationProcessed } from "./events.ts";
import { deadLetters, deliveries, recipients } from "./schema.ts";

export type Outcome = NonNullable<(typeof recipients.$inferSelect)["outcome"]>;

/** How it ended for one recipient. Ids as the database writes them. */
export interface Ending {
  notificationId: string;
  userId: string;
  outcome: Outcome;
  /** Why it failed. */
  code?: string | undefined;
  /** Tries that failed and that the delivery does not know of yet. */
  newlyFailed?: number;
}

/**
 * Ends the work for these recipients, each named once, whose deliveries this transaction has locked; returns what tells of
 * it. What failed is a dead letter afterwards.
 */
export async function settle(tx: Tx, endings: Ending[]): Promise<OutboxEvent[]> {
  if (endings.length === 0) return [];
  // Recipients are locked in order: people mark theirs as read at the same time. The delivery tells under which lease it was.
  await tx.execute(sql`
    with ending as (
      select told.* from jsonb_to_recordset(${JSON.stringify(endings)}::jsonb)
        as told("notificationId" uuid, "userId" uuid, outcome text, code text, "newlyFailed" smallint)
      join ${recipients} r on r.notification_id = told."notificationId" and r.user_id = told."userId"
      order by 1, 2 for update of r
    ), gone as (
      delete from ${deliveries} d using ending
      where d.notification_id = ending."notificationId" and d.user_id = ending."userId"
      returning d.*, d.failed_tries + coalesce(ending."newlyFailed", 0) as tries, ending.outcome, ending.code
    ), dead as (
      insert into ${deadLetters} (notification_id, user_id, queue, rank, created_at, failed_tries, code)
      select notification_id, user_id, queue, rank, created_at, tries, code from gone where outcome = 'failed'
    )
    update ${recipients} r set processed_at = (select concierge_now()), outcome = gone.outcome, code = gone.code,
      failed_tries = gone.tries, lease_owner = gone.lease_owner, lease_token = gone.lease_token
    from gone where r.notification_id = gone.notification_id and r.user_id = gone.user_id`);
  return eventsOf(endings);
}

/** One for each notification, and one more for those from whom it was taken back. */
function eventsOf(endings: Ending[]): OutboxEvent[] {
  return [...Map.groupBy(endings, ({ notificationId }) => notificationId)].flatMap(([notificationId, ended]) => {
    const usersWho = (isCancelled: boolean) => {
      return ended.filter(({ outcome }) => (outcome === "cancelled") === isCancelled).map(({ userId }) => userId);
    };
    const [processed, cancelled] = [usersWho(false), usersWho(true)];
    return [
      ...(processed.length > 0 ? [notificationProcessed(notificationId, processed)] : []),
      ...(cancelled.length > 0 ? [notificationCancelled(notificationId, cancelled)] : []),
    ];
  });
}
