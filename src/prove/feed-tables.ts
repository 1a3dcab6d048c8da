/**
 * The tables of `make prove/feed` beside the feed's own. What was committed is what `fact` says: its rows are written in the
 * transaction of their events. An effect is a row without any unique constraint, so that one that was done twice shows.
 */
import { bigint, integer, pgTable, text } from "drizzle-orm/pg-core";
import { connect } from "../db/connection.ts";

/** A row that business transactions change: raised by one in each. */
export const business = pgTable("business", {
  id: integer("id").primaryKey(),
  changes: integer("changes").notNull().default(0),
});

/** One row for each event: the transaction's name, and its place in the list of events. */
export const fact = pgTable("fact", {
  transaction: text("transaction").notNull(),
  place: integer("place").notNull(),
});

export const effect = pgTable("effect", {
  number: bigint("number", { mode: "bigint" }).generatedAlwaysAsIdentity(),
  eventId: text("event_id").notNull(),
  subject: text("subject").notNull(),
  version: bigint("version", { mode: "bigint" }).notNull(),
});

/** How many effects there were about a subject. */
export const effectCount = pgTable("effect_count", {
  subject: text("subject").primaryKey(),
  effects: integer("effects").notNull(),
});

export const BUSINESS_ROWS = 1_000;
/** Few, so that transactions which share no other row meet at them. */
export const SUBJECTS = 50;
/** Name of the service whose feed it is, and of the one that follows it. */
export const SOURCE = "shop";
export const FOLLOWER = "post";

/** Makes the tables of the service that publishes. */
export function makeSourceTables(ownerUrl: string): Promise<void> {
  return run(ownerUrl, [
    "create table business (id integer primary key, changes integer not null default 0)",
    `insert into business select generate_series(1, ${BUSINESS_ROWS})`,
    "create table fact (transaction text not null, place integer not null, primary key (transaction, place))",
    "grant select, insert, update on business, fact to public",
  ]);
}

/** Makes the tables of the service that follows. */
export function makeTargetTables(ownerUrl: string): Promise<void> {
  return run(ownerUrl, [
    `create table effect (number bigint generated always as identity, event_id text not null, subject text not null,
      version bigint not null)`,
    "create table effect_count (subject text primary key, effects integer not null)",
    "grant select, insert, update on effect, effect_count to public",
  ]);
}

async function run(ownerUrl: string, statements: string[]): Promise<void> {
  const sql = connect(ownerUrl, { applicationName: "prove/feed" });
  try {
    for (const statement of statements) await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}
