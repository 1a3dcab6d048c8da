/**
 * Results: what became of leased recipients. All that a call tells is written in one transaction or nothing is, so a marker
 * that has lost a lease learns it and leaves no half of its work; telling it again changes nothing.
 */
import { and, inArray, isNull, type SQL, sql } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { removeDevices } from "./devices.ts";
import { notificationProcessed } from "./events.ts";
import { isHeldBy } from "./leases.ts";
import { recipients } from "./schema.ts";

export type Outcome = NonNullable<(typeof recipients.$inferSelect)["outcome"]>;

export interface RecipientOutcome {
  notificationId: string;
  userId: string;
  outcome: Outcome;
}

/** Who marks what. */
export interface Results {
  owner: string;
  /** Undefined for what ListUnprocessed leased. */
  leaseToken: string | undefined;
  /** Notifications whose leased recipients are all sent, but for those in `outcomes`. */
  notificationIds: string[];
  outcomes: RecipientOutcome[];
  deadDeviceIds: string[];
}

interface Marked {
  notificationId: string;
  userId: string;
}

const marked = { notificationId: recipients.notificationId, userId: recipients.userId };
const processedAt = sql`(select concierge_now())`;

/**
 * Marks recipients processed, removes their dead devices, and tells of it once for each notification; returns how many
 * recipients were marked. ABORTED / LEASE_LOST, INVALID_ARGUMENT / INVALID_REQUEST for two outcomes of one recipient.
 */
export async function markProcessed(db: Db, { signal }: Pick<CallScope, "signal">, results: Results): Promise<number> {
  const { owner, leaseToken, deadDeviceIds } = results;
  const outcomes = distinctOutcomes(results.outcomes);
  const isHeld = isHeldBy(owner, leaseToken);
  return transaction(
    db,
    async (tx) => {
      const rows = [
        ...(await markOutcomes(tx, outcomes, isHeld)),
        ...(await markSent(tx, results.notificationIds, isHeld)),
      ];
      await removeDevices(
        tx,
        deadDeviceIds,
        rows.map(({ userId }) => userId),
      );
      await emit(tx, eventsOf(rows));
      return rows.length;
    },
    { signal },
  );
}

/** Each recipient once, with ids as the database writes them. */
function distinctOutcomes(outcomes: RecipientOutcome[]): RecipientOutcome[] {
  const byRecipient = new Map<string, RecipientOutcome>();
  for (const { notificationId, userId, outcome } of outcomes) {
    const one = { notificationId: notificationId.toLowerCase(), userId: userId.toLowerCase(), outcome };
    const recipient = `${one.notificationId} ${one.userId}`;
    const other = byRecipient.get(recipient);
    if (other && other.outcome !== outcome) {
      throw fail(Code.InvalidArgument, "INVALID_REQUEST", "outcomes: two different outcomes for one recipient");
    }
    byRecipient.set(recipient, one);
  }
  return [...byRecipient.values()];
}

async function markOutcomes(tx: Tx, outcomes: RecipientOutcome[], isHeld: SQL): Promise<Marked[]> {
  if (outcomes.length === 0) return [];
  const told = sql`jsonb_to_recordset(${JSON.stringify(outcomes)}::jsonb)
    as told("notificationId" uuid, "userId" uuid, outcome text)`;
  const isTold = sql`${recipients.notificationId} = told."notificationId" and ${recipients.userId} = told."userId"`;
  const isMine = and(isTold, isNull(recipients.processedAt), isHeld);
  await lockInOrder(tx, sql`${recipients}, ${told}`, isMine);
  const rows = await tx
    .update(recipients)
    .set({ processedAt, outcome: sql`told.outcome` })
    .from(told)
    .where(isMine)
    .returning(marked);
  const lost = await tx.execute(sql`
    select 1 from ${told} left join ${recipients} on ${isTold} where ${recipients.processedAt} is null limit 1`);
  if (lost.length > 0) throw leaseLost();
  return rows;
}

async function markSent(tx: Tx, notificationIds: string[], isHeld: SQL): Promise<Marked[]> {
  if (notificationIds.length === 0) return [];
  const isMine = and(inArray(recipients.notificationId, notificationIds), isNull(recipients.processedAt), isHeld);
  await lockInOrder(tx, sql`${recipients}`, isMine);
  const rows = await tx.update(recipients).set({ processedAt, outcome: "sent" }).where(isMine).returning(marked);
  // In order are those of which this lease has processed something, now or before, and those that are processed whole.
  const isProcessed = sql`${recipients.processedAt} is not null`;
  const lost = await tx.execute(sql`
    select 1 from jsonb_array_elements_text(${JSON.stringify(notificationIds)}::jsonb) told(id)
    where not coalesce((
      select bool_and(${isProcessed}) or bool_or(${isProcessed} and ${isHeld})
      from ${recipients} where ${recipients.notificationId} = told.id::uuid
    ), false) limit 1`);
  if (lost.length > 0) throw leaseLost();
  return rows;
}

/** An UPDATE locks rows as it comes by them: two calls about the same ones would wait for each other. */
async function lockInOrder(tx: Tx, tables: SQL, where: SQL | undefined): Promise<void> {
  await tx.execute(sql`
    select 1 from ${tables} where ${where}
    order by ${recipients.notificationId}, ${recipients.userId} for update of recipients`);
}

function leaseLost() {
  return fail(Code.Aborted, "LEASE_LOST", "a recipient is not leased to this caller under this token");
}

function eventsOf(rows: Marked[]) {
  const byNotification = Map.groupBy(rows, ({ notificationId }) => notificationId);
  return [...byNotification].map(([notificationId, processed]) =>
    notificationProcessed(
      notificationId,
      processed.map(({ userId }) => userId),
    ),
  );
}
