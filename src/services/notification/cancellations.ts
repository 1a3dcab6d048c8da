/**
 * Cancellations: a notification is taken back from those to whom it was not pushed. Whoever is under a lease at that moment is
 * left to its sender, so nobody is both pushed to under a lease and cancelled; whom the sender does not reach is cancelled
 * then, because nobody is given a lease on it any more.
 */
import { and, eq, isNotNull, sql } from "drizzle-orm";
import { isAnyOf } from "../../db/any-of.ts";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { notificationCancelled } from "./events.ts";
import { findNotification, type WhichNotification } from "./notifications.ts";
import { deadLetters, deliveries, notifications, recipients } from "./schema.ts";

/** Returns from how many people it was taken back; dead letters of it are, too. NOT_FOUND / NOTIFICATION_NOT_FOUND. */
export async function cancelNotification(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  which: WhichNotification,
): Promise<number> {
  return transaction(
    db,
    async (tx) => {
      const id = await findNotification(tx, which);
      await lockDeliveries(tx, id);
      const userIds = await takeBack(tx, id);
      const cancelledAt = sql`coalesce(${notifications.cancelledAt}, concierge_now())`;
      await tx.update(notifications).set({ cancelledAt }).where(eq(notifications.id, id));
      if (userIds.length > 0) await emit(tx, [notificationCancelled(id, userIds)]);
      return userIds.length;
    },
    { signal },
  );
}

/** Which of these notifications are cancelled. Who has locked a delivery of one before has waited for its cancellation. */
export async function cancelledAmong(tx: Tx, notificationIds: Iterable<string>): Promise<ReadonlySet<string>> {
  const ids = [...new Set(notificationIds)];
  if (ids.length === 0) return new Set();
  const { id, cancelledAt } = notifications;
  const found = await tx
    .select({ id })
    .from(notifications)
    .where(and(isAnyOf(id, ids), isNotNull(cancelledAt)));
  return new Set(found.map((each) => each.id));
}

/** Also those under a lease: what claims and results of this moment do is waited for, and seen by the statements that follow. */
async function lockDeliveries(tx: Tx, notificationId: string): Promise<void> {
  await tx.execute(sql`
    select count(*) from (
      select 1 from ${deliveries} where notification_id = ${notificationId} order by user_id for update
    ) locked`);
}

/** From whom waits or was given up; returns who these are, in order. */
async function takeBack(tx: Tx, notificationId: string): Promise<string[]> {
  const cancelled = await tx.execute<{ userId: string }>(sql`
    with undone as (
      delete from ${deliveries}
      where notification_id = ${notificationId} and (lease_owner is null or available_at <= (select concierge_now()))
      returning user_id
    ), dead as (
      delete from ${deadLetters} where notification_id = ${notificationId} returning user_id
    )
    update ${recipients} r set outcome = 'cancelled', code = null, processed_at = (select concierge_now())
    from (table undone union all table dead) gone
    where r.notification_id = ${notificationId} and r.user_id = gone.user_id
    returning r.user_id as "userId"`);
  return cancelled.map(({ userId }) => userId).sort();
}
