/**
 * Appends events to the outbox, in the transaction of the change they tell of: no event without its write, no write
 * without its event. Per subject, versions have no gaps and ids grow with them, whatever runs at the same time.
 */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import type { Tx } from "../db/database.ts";
import { failpoint } from "../failpoints.ts";
import { feedOutbox, feedSubject } from "./schema.ts";

/** One published fact. */
export interface OutboxEvent {
  /** The full name of the message, such as "concierge.user.v1.UserCreated". */
  type: string;
  /** What it is about; one subject's events are read in the order of their versions. */
  subject: string;
  /** The message in protobuf's binary form. */
  payload: Uint8Array;
}

/** Makes an event of a message: `event(UserCreatedSchema, `user/${id}`, { userId: id })`. */
export function event<Desc extends DescMessage>(
  desc: Desc,
  subject: string,
  init: MessageInitShape<Desc>,
): OutboxEvent {
  return { type: desc.typeName, subject, payload: toBinary(desc, create(desc, init)) };
}

const emitted = new WeakSet<Tx>();

/**
 * Writes the events, which must be all of this transaction: subjects are locked in sorted order, and a second call would
 * break that order (it throws). Events about one subject get consecutive versions in the order of the list.
 */
export async function emit(tx: Tx, events: readonly OutboxEvent[]): Promise<void> {
  if (events.length === 0) return;
  if (emitted.has(tx)) throw new Error("emit() is called once in a transaction, with all of its events");
  emitted.add(tx);
  const next = await raiseVersions(tx, events);
  const rows = events.map(({ type, subject, payload }) => {
    const version = next.get(subject)!;
    next.set(subject, version + 1n);
    return { type, subject, version, payload };
  });
  await tx.insert(feedOutbox).values(rows);
  await failpoint("emit.after_insert");
}

/** Whether this transaction has written events. */
export function hasEmitted(tx: Tx): boolean {
  return emitted.has(tx);
}

/** Raises each subject's version by the number of its events; the row stays locked until the commit. Returns the first
 * new version of each. */
async function raiseVersions(tx: Tx, events: readonly OutboxEvent[]): Promise<Map<string, bigint>> {
  const counts = new Map<string, bigint>();
  for (const { subject } of events) counts.set(subject, (counts.get(subject) ?? 0n) + 1n);
  const rows = await tx
    .insert(feedSubject)
    .values([...counts].map(([subject, version]) => ({ subject, version })).sort(bySubject))
    .onConflictDoUpdate({
      target: feedSubject.subject,
      set: { version: sql`${feedSubject.version} + excluded.version` },
    })
    .returning();
  return new Map(rows.map(({ subject, version }) => [subject, version - counts.get(subject)! + 1n]));
}

/** By code units: every process must sort alike, whatever its language. */
function bySubject(a: { subject: string }, b: { subject: string }): number {
  return a.subject < b.subject ? -1 : 1;
}
