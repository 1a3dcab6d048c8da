/**
 * Appends events to the outbox, in the transaction of the change they tell of: no event without its write, no write
 * without its event. Per subject, versions have no gaps and ids grow with them, whatever runs at the same time.
 */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type SQL, sql } from "drizzle-orm";
import type { Tx } from "../db/database.ts";
import { failpoint } from "../failpoints.ts";

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
 * break that order (it throws). Events about one subject get consecutive versions in the order of the list. Returns the versions
 * that the subjects have now.
 */
export async function emit(tx: Tx, events: readonly OutboxEvent[]): Promise<ReadonlyMap<string, bigint>> {
  if (events.length === 0) return new Map();
  if (emitted.has(tx)) throw new Error("emit() is called once in a transaction, with all of its events");
  emitted.add(tx);
  const { subjects, rows } = numbered(events);
  // In one statement, because every write of every service pays for it. The subjects are locked before an id is drawn: so each
  // transaction has its own id by then, which the floor rests on, and per subject ids grow with the versions.
  const raised = await tx.execute<{ subject: string; version: string }>(sql`
    with raised as (
      insert into feed_subject as s (subject, version) values ${list(subjects)}
      on conflict (subject) do update set version = s.version + excluded.version
      returning s.subject, s.version
    ), appended as (
      insert into feed_outbox (type, subject, version, payload)
      select type, event.subject, version - later, payload
      from (values ${list(rows)}) event (place, later, type, subject, payload) join raised on raised.subject = event.subject
      order by place
    )
    select subject, version from raised`);
  await failpoint("emit.after_insert");
  return new Map(raised.map(({ subject, version }) => [subject, BigInt(version)]));
}

/** Whether this transaction has written events. */
export function hasEmitted(tx: Tx): boolean {
  return emitted.has(tx);
}

/**
 * The subjects with the numbers of their events, sorted by code units: every process must lock them in one order, whatever its
 * language. And the events, each with the number of those after it that are about the same subject.
 */
function numbered(events: readonly OutboxEvent[]): { subjects: SQL[]; rows: SQL[] } {
  const counts = new Map<string, number>();
  const rows: SQL[] = [];
  for (const [place, { type, subject, payload }] of [...events.entries()].reverse()) {
    const later = counts.get(subject) ?? 0;
    counts.set(subject, later + 1);
    rows.push(sql`(${place}::integer, ${later}::integer, ${type}::text, ${subject}::text, ${payload}::bytea)`);
  }
  const subjects = [...counts.keys()].sort().map((subject) => sql`(${subject}, ${counts.get(subject)}::integer)`);
  return { subjects, rows };
}

function list(parts: SQL[]): SQL {
  return sql.join(parts, sql`, `);
}
