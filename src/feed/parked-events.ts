/**
 * Events of another service whose effect failed again and again. They wait here, so that they hold up nothing but the later
 * events about their own subjects, which wait behind them: one subject's events are done in their order or not at all.
 */
import { and, asc, count, eq, inArray, min, ne, or } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../db/database.ts";
import { isUnavailable } from "../db/errors.ts";
import type { Effects } from "./effects.ts";
import { emit } from "./emit.ts";
import { feedParked } from "./schema.ts";
import type { FeedEvent } from "./tail.ts";

/** How many events of a source are parked. */
export async function countParked(db: Db, source: string): Promise<number> {
  const [row] = await db.select({ events: count() }).from(feedParked).where(eq(feedParked.source, source));
  return row!.events;
}

/** Which of these subjects have events that are parked. */
export async function parkedSubjects(
  tx: Pick<Db, "selectDistinct">,
  source: string,
  subjects: string[],
): Promise<Set<string>> {
  const rows = await tx
    .selectDistinct({ subject: feedParked.subject })
    .from(feedParked)
    .where(and(eq(feedParked.source, source), inArray(feedParked.subject, subjects)));
  return new Set(rows.map(({ subject }) => subject));
}

/** Parks an event behind those about its subject. One that is parked already, and comes again after a lost cursor, keeps its place. */
export async function parkEvent(tx: Tx, source: string, event: FeedEvent): Promise<void> {
  const { id: eventId, type, subject, version, position, createdAt, payload } = event;
  // A feed that was restored from a backup gives an id to another event: the one that had it is in no feed any more.
  const isAnother = or(
    ne(feedParked.type, type),
    ne(feedParked.subject, subject),
    ne(feedParked.version, version),
    ne(feedParked.payload, payload),
  );
  await tx.delete(feedParked).where(and(eq(feedParked.source, source), eq(feedParked.eventId, eventId), isAnother));
  await tx
    .insert(feedParked)
    .values({ source, eventId, type, subject, version, position, createdAt, payload })
    .onConflictDoNothing();
}

/** Of each subject the event that is to be tried first, in the order in which they were parked. */
export async function oldestParked(db: Db, source: string): Promise<(FeedEvent & { number: bigint })[]> {
  const numbers = db
    .select({ number: min(feedParked.number) })
    .from(feedParked)
    .where(eq(feedParked.source, source))
    .groupBy(feedParked.subject);
  const rows = await db
    .select()
    .from(feedParked)
    .where(and(eq(feedParked.source, source), inArray(feedParked.number, numbers)))
    .orderBy(asc(feedParked.number));
  return rows.map(({ eventId, ...row }) => ({ ...row, id: eventId }));
}

/** Takes out one that is done. */
export async function unpark(db: Pick<Db, "delete">, source: string, number: bigint): Promise<void> {
  await db.delete(feedParked).where(and(eq(feedParked.source, source), eq(feedParked.number, number)));
}

export interface RetryOptions {
  db: Db;
  source: string;
  effects: Effects;
  /** Ends it between two transactions. */
  signal: AbortSignal;
}

/** Tries every subject's events in order, until the first that fails. Throws only if the database is away. */
export async function retryParked({ db, source, effects, signal }: RetryOptions): Promise<void> {
  const subjects = await db
    .select({ subject: feedParked.subject })
    .from(feedParked)
    .where(eq(feedParked.source, source))
    .groupBy(feedParked.subject)
    .orderBy(min(feedParked.number));
  for (const { subject } of subjects) {
    let goesOn = true;
    while (goesOn && !signal.aborted) goesOn = await retryOldest(db, source, subject, effects);
  }
}

/** Whether the subject's oldest event was done now. */
async function retryOldest(db: Db, source: string, subject: string, effects: Effects): Promise<boolean> {
  try {
    return await transaction(db, async (tx) => {
      const row = await lockOldest(tx, source, subject);
      if (!row) return false;
      const effect = effects.get(row.type);
      if (!effect) return false;
      const published = await effect.prepare({ ...row, id: row.eventId })(tx);
      await unpark(tx, source, row.number);
      await emit(tx, published ?? []);
      return true;
    });
  } catch (error) {
    if (isUnavailable(error)) throw error;
    return false;
  }
}

/**
 * The oldest row, or none while another replica has it. Which one is the oldest is asked apart: a search that skips locked rows
 * would find the second while the first is being done.
 */
async function lockOldest(tx: Tx, source: string, subject: string) {
  const oldest = tx
    .select({ number: min(feedParked.number) })
    .from(feedParked)
    .where(and(eq(feedParked.source, source), eq(feedParked.subject, subject)));
  const [row] = await tx
    .select()
    .from(feedParked)
    .where(and(eq(feedParked.source, source), eq(feedParked.number, oldest)))
    .for("update", { skipLocked: true });
  return row;
}
