/** Tables of notification. */
import { sql } from "drizzle-orm";
import { index, jsonb, pgTable, primaryKey, text, uuid } from "drizzle-orm/pg-core";
import { now, time } from "../../db/columns.ts";

/** What is said. Never changed once it is stored, but emptied when nobody is left to whom it was said. */
export const notifications = pgTable("notifications", {
  /** UUID v7: an inbox is read in the order of ids. */
  id: uuid("id").primaryKey(),
  /** May be empty. */
  title: text("title").notNull(),
  text: text("text").notNull(),
  data: jsonb("data").$type<Record<string, string>>().notNull(),
  createdAt: time("created_at").notNull().default(now),
});

/**
 * To whom it is said, and what became of it: the work list of the senders and the inbox of the person. A recipient waits
 * while `processed_at` is null, and may be taken while no lease that has not run out is on it.
 */
export const recipients = pgTable(
  "recipients",
  {
    notificationId: uuid("notification_id")
      .notNull()
      .references(() => notifications.id),
    userId: uuid("user_id").notNull(),
    /** The notification's; senders take the oldest first. */
    createdAt: time("created_at").notNull(),
    processedAt: time("processed_at"),
    outcome: text("outcome", { enum: ["sent", "no_device", "failed"] }),
    receivedAt: time("received_at"),
    /** Kind and name of the caller that holds the lease, or held it when the recipient was processed. */
    leaseOwner: text("lease_owner"),
    /** Of a claim; null where ListUnprocessed gave the lease. */
    leaseToken: uuid("lease_token"),
    leaseExpiresAt: time("lease_expires_at"),
  },
  (table) => [
    primaryKey({ columns: [table.notificationId, table.userId] }),
    index("recipients_unprocessed")
      .on(table.createdAt, table.notificationId, table.userId)
      .where(sql`processed_at is null`),
    // Read backwards: newest first.
    index("recipients_inbox").on(table.userId, table.notificationId),
  ],
);

/** What shows notifications to a person. */
export const devices = pgTable(
  "devices",
  {
    id: uuid("id").primaryKey(),
    userId: uuid("user_id").notNull(),
    /** Firebase's registration token. */
    token: text("token").notNull(),
    /** SHA-256 of the token, base64url: tokens are unique, and longer than an index entry may be. */
    tokenHash: text("token_hash").notNull().unique("devices_token_hash"),
    platform: text("platform", { enum: ["android", "ios", "web"] }).notNull(),
    createdAt: time("created_at").notNull().default(now),
    /** When it was last registered. */
    lastSeenAt: time("last_seen_at").notNull().default(now),
  },
  (table) => [index("devices_user").on(table.userId)],
);

/** Accounts that are deleted, for good: whatever comes late for one of them is refused. */
export const deletedAccounts = pgTable("deleted_accounts", {
  userId: uuid("user_id").primaryKey(),
  deletedAt: time("deleted_at").notNull().default(now),
});
