/**
 * Accounts, once they are deleted: nothing reaches the person any more, and nothing that was said to them alone is kept. The
 * ledger keeps its rows, so that a sender which is about to tell of one finds it; they name an id that is nobody's.
 */
import { eq, inArray, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { OutboxEvent } from "../../feed/emit.ts";
import { settle } from "./outcomes.ts";
import { deadLetters, deletedAccounts, deliveries, devices, mutedTopics, notifications, recipients } from "./schema.ts";

/**
 * Keeps the caller's account from being deleted until the transaction ends. UNAUTHENTICATED if it was: a call may have been let
 * in before the end of its session was known. There is no row of a living account to lock, hence the advisory lock.
 */
export async function lockAccount(tx: Tx, userId: string): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock_shared(hashtextextended(${userId}, 0))`);
  // A statement of its own, which sees what the lock was waited for.
  const [deleted] = await tx.select().from(deletedAccounts).where(eq(deletedAccounts.userId, userId));
  if (deleted) throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
}

const ALL_RECIPIENTS = sql`hashtextextended('recipients', 0)`;

/** Keeps accounts from being deleted until the transaction ends, in which recipients are stored. */
export async function lockRecipients(tx: Tx): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock_shared(${ALL_RECIPIENTS})`);
}

/** Empties notifications. */
export async function forget(tx: Tx, which: SQL): Promise<void> {
  await tx.update(notifications).set({ title: "", text: "", data: {} }).where(which);
}

/** Does all that, once or again; returns what tells of it. `userId` as auth writes it. */
export async function removeAccount(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  await tx.execute(sql`select pg_advisory_xact_lock(${ALL_RECIPIENTS})`);
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${userId}, 0))`);
  await tx.insert(deletedAccounts).values({ userId }).onConflictDoNothing();
  const events = await giveUp(tx, userId);
  await tx.delete(devices).where(eq(devices.userId, userId));
  await tx.delete(mutedTopics).where(eq(mutedTopics.userId, userId));
  await tx.delete(deadLetters).where(eq(deadLetters.userId, userId));
  await forgetContents(tx, userId);
  return events;
}

/** Leases stay as they are: who holds one and tells of it later is in order. */
async function giveUp(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  // In the order in which markProcessed() locks them.
  const waiting = await tx.execute<{ notificationId: string }>(sql`
    select d.notification_id as "notificationId" from ${recipients} r
    join ${deliveries} d on d.notification_id = r.notification_id and d.user_id = r.user_id
    where r.user_id = ${userId} order by d.notification_id for update of d`);
  return settle(
    tx,
    waiting.map(({ notificationId }) => ({ notificationId, userId, outcome: "no_device" })),
  );
}

/** Empties what was said to nobody but people whose accounts are deleted. */
async function forgetContents(tx: Tx, userId: string): Promise<void> {
  const received = tx.select({ id: recipients.notificationId }).from(recipients).where(eq(recipients.userId, userId));
  const isForOthers = sql`exists (
    select 1 from ${recipients} where ${recipients.notificationId} = ${notifications.id}
      and not exists (select from ${deletedAccounts} where ${deletedAccounts.userId} = ${recipients.userId}))`;
  await forget(tx, sql`${inArray(notifications.id, received)} and ${notifications.text} <> '' and not ${isForOthers}`);
}
