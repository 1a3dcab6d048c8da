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
  const { subjects, rows } = sourcesOf(events);
  // In one statement, because every write of every service pays for it. The subjects are locked before an id is drawn: so each
  // transaction has its own id by then, which the floor rests on, and per subject ids grow with the versions.
  const raised = await tx.execute<{ subject: string; version: string }>(sql`
    with raised as (
      insert into feed_subject as s (subject, version) ${subjects}
      on conflict (subject) do update set version = s.version + excluded.version
      returning s.subject, s.version
    ), appended as (
      insert into feed_outbox (type, subject, version, payload)
      select type, event.subject, version - later, payload
      from (${rows}) event (place, later, type, subject, payload) join raised on raised.subject = event.subject
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

interface NumberedEvent extends OutboxEvent {
  /** In the list. */
  place: number;
  /** How many events after it are about the same subject. */
  later: number;
}

/**
 * The subjects with the numbers of their events, sorted by code units: every process must lock them in one order, whatever its
 * language. And the events.
 */
function numbered(events: readonly OutboxEvent[]): { subjects: [string, number][]; rows: NumberedEvent[] } {
  const counts = new Map<string, number>();
  const rows: NumberedEvent[] = [];
  for (const [place, event] of [...events.entries()].reverse()) {
    const later = counts.get(event.subject) ?? 0;
    counts.set(event.subject, later + 1);
    rows.push({ ...event, place, later });
  }
  const subjects = [...counts.keys()].sort().map((subject): [string, number] => [subject, counts.get(subject)!]);
  return { subjects, rows };
}

/** More would make statements of thousands of parameters, another one for each number of events. */
const MOST_AS_VALUES = 8;

/** Both as queries: a few are cheapest as values, many as one document. */
function sourcesOf(events: readonly OutboxEvent[]): { subjects: SQL; rows: SQL } {
  const { subjects, rows } = numbered(events);
  if (events.length > MOST_AS_VALUES) return documentsOf(subjects, rows);
  const values = rows.map(({ place, later, type, subject, payload }) => {
    return sql`(${place}::integer, ${later}::integer, ${type}::text, ${subject}::text, ${payload}::bytea)`;
  });
  const counts = subjects.map(([subject, count]) => sql`(${subject}, ${count}::integer)`);
  return { subjects: sql`values ${list(counts)}`, rows: sql`values ${list(values)}` };
}

function documentsOf(subjects: [string, number][], rows: NumberedEvent[]): { subjects: SQL; rows: SQL } {
  const encoded = rows.map(({ payload, ...row }) => ({ ...row, payload: Buffer.from(payload).toString("base64") }));
  return {
    subjects: sql`select value ->> 0, (value ->> 1)::integer
      from jsonb_array_elements(${JSON.stringify(subjects)}::jsonb) with ordinality order by ordinality`,
    rows: sql`select place, later, type, subject, decode(payload, 'base64')
      from jsonb_to_recordset(${JSON.stringify(encoded)}::jsonb)
        as row (place integer, later integer, type text, subject text, payload text)`,
  };
}

function list(parts: SQL[]): SQL {
  return sql.join(parts, sql`, `);
}
