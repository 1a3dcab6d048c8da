/**
 * The feed's tables as Drizzle sees them; drizzle/platform/ makes them in every service's database. A row of the outbox is
 * written with its change (emit.ts) and gets its position after the commit (log.ts).
 */
import { bigint, pgTable, text } from "drizzle-orm/pg-core";
import { bytea, now, time } from "../db/columns.ts";

export const feedOutbox = pgTable("feed_outbox", {
  /** Drawn while the subject is locked, so per subject ids are in the order of versions; never before the transaction has an id. */
  id: bigint("id", { mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
  /** Null until the row is stamped. */
  position: bigint("position", { mode: "bigint" }),
  /** The full name of the event's message. */
  type: text("type").notNull(),
  /** What the event is about, such as "user/<id>"; its versions have no gaps. */
  subject: text("subject").notNull(),
  version: bigint("version", { mode: "bigint" }).notNull(),
  /** The message in protobuf's binary form. */
  payload: bytea("payload").notNull(),
  createdAt: time("created_at").notNull().default(now),
});

export const feedSubject = pgTable("feed_subject", {
  subject: text("subject").primaryKey(),
  version: bigint("version", { mode: "bigint" }).notNull(),
});

/** How far this service has come with the feeds of others, by their names (follower.ts). */
export const feedCursor = pgTable("feed_cursor", {
  source: text("source").primaryKey(),
  epoch: text("epoch").notNull(),
  position: bigint("position", { mode: "bigint" }).notNull(),
});

/** Events of others whose effect failed again and again, and those about the same subjects that came after them. */
export const feedParked = pgTable("feed_parked", {
  source: text("source").notNull(),
  /** The order in which they are tried again. */
  number: bigint("number", { mode: "bigint" }).notNull().generatedAlwaysAsIdentity(),
  eventId: text("event_id").notNull(),
  type: text("type").notNull(),
  subject: text("subject").notNull(),
  version: bigint("version", { mode: "bigint" }).notNull(),
  position: bigint("position", { mode: "bigint" }).notNull(),
  createdAt: time("created_at").notNull(),
  payload: bytea("payload").notNull(),
  parkedAt: time("parked_at").notNull().default(now),
});

/** Who does what one process of the service should do at a time (leases.ts). */
export const feedLease = pgTable("feed_lease", {
  name: text("name").primaryKey(),
  /** One process's own. */
  holder: text("holder").notNull(),
  until: time("until").notNull(),
});
