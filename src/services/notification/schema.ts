/** Tables of notification. */
import { sql } from "drizzle-orm";
import { index, jsonb, pgTable, primaryKey, smallint, text, unique, uuid } from "drizzle-orm/pg-core";
import { bytea, now, time } from "../../db/columns.ts";

/** What is said. Never changed once it is stored, but emptied when nobody is left to whom it was said. */
export const notifications = pgTable(
  "notifications",
  {
    /** UUID v7: an inbox is read in the order of ids. */
    id: uuid("id").primaryKey(),
    /** Null where it comes from none. */
    organizationId: uuid("organization_id"),
    /** Empty: it cannot be muted. */
    topic: text("topic").notNull().default(""),
    priority: text("priority", { enum: ["normal", "high"] })
      .notNull()
      .default("normal"),
    /** May be empty. */
    title: text("title").notNull(),
    text: text("text").notNull(),
    data: jsonb("data").$type<Record<string, string>>().notNull(),
    createdAt: time("created_at").notNull().default(now),
    /** It is not pushed any more then. */
    expiresAt: time("expires_at").notNull(),
    /** When it was first taken back; from then on nobody is given a lease on it. */
    cancelledAt: time("cancelled_at"),
    /** Kind and name of the caller that created it: keys are the caller's own. */
    author: text("author").notNull().default(""),
    idempotencyKey: text("idempotency_key"),
    /** SHA-256 of the request that came with the key. */
    requestDigest: bytea("request_digest"),
    /** The trace in which it was created. */
    traceparent: text("traceparent").notNull().default(""),
  },
  (table) => [unique("notifications_idempotency_key").on(table.author, table.idempotencyKey)],
);

/**
 * To whom it is said, and what became of it: the inbox of the person. A recipient is not processed while there is a delivery. No
 * index names what marking changes but `read_at`: so most updates touch no index.
 */
export const recipients = pgTable(
  "recipients",
  {
    notificationId: uuid("notification_id")
      .notNull()
      .references(() => notifications.id),
    userId: uuid("user_id").notNull(),
    processedAt: time("processed_at"),
    outcome: text("outcome", { enum: ["sent", "no_device", "muted", "expired", "failed", "cancelled"] }),
    /** Why it failed. */
    code: text("code"),
    failedTries: smallint("failed_tries").notNull().default(0),
    /** Under which lease it was processed: who tells it again is in order. */
    leaseOwner: text("lease_owner"),
    leaseToken: uuid("lease_token"),
    receivedAt: time("received_at"),
    readAt: time("read_at"),
  },
  (table) => [
    primaryKey({ columns: [table.notificationId, table.userId] }),
    // Both are read backwards: newest first.
    index("recipients_inbox").on(table.userId, table.notificationId),
    index("recipients_unread").on(table.userId, table.notificationId).where(sql`read_at is null`),
  ],
);

/** A recipient of a notification, as work to do or given up. */
const delivery = {
  notificationId: uuid("notification_id").notNull(),
  userId: uuid("user_id").notNull(),
  /** Whose turn it is: the organization, or a UUID made of the author's name for notifications that come from none. */
  queue: uuid("queue").notNull(),
  /** 0 comes before 1. */
  rank: smallint("rank").notNull(),
  /** The notification's. */
  createdAt: time("created_at").notNull(),
  /** How often the push service was asked and did not take it. */
  failedTries: smallint("failed_tries").notNull().default(0),
};

/** What is to be pushed: the senders' work list. A row is removed when its recipient is processed. */
export const deliveries = pgTable(
  "deliveries",
  {
    ...delivery,
    /** When it may be taken: the end of its lease, or of the wait for another try. */
    availableAt: time("available_at").notNull(),
    /** Kind and name of the caller that has it; null while nobody has. */
    leaseOwner: text("lease_owner"),
    /** Of a claim; null where ListUnprocessed gave the lease. */
    leaseToken: uuid("lease_token"),
    /** How often it was taken since anything was told of it. */
    claims: smallint("claims").notNull().default(0),
  },
  (table) => [
    primaryKey({ columns: [table.notificationId, table.userId] }),
    // From each queue in turn.
    index("deliveries_queue").on(table.queue, table.rank, table.availableAt),
    index("deliveries_oldest").on(table.createdAt, table.notificationId, table.userId),
    index("deliveries_lease").on(table.leaseToken).where(sql`lease_token is not null`),
    // Those that may have ended their senders.
    index("deliveries_suspect").on(table.availableAt).where(sql`claims >= 2`),
  ],
);

/** What was given up, until somebody lets it be tried again. */
export const deadLetters = pgTable(
  "dead_letters",
  {
    ...delivery,
    code: text("code").notNull(),
    diedAt: time("died_at").notNull().default(now),
  },
  (table) => [
    primaryKey({ columns: [table.notificationId, table.userId] }),
    index("dead_letters_died").on(table.diedAt, table.notificationId, table.userId),
  ],
);

/** How many recipients may still be addressed: a bucket that fills up again. */
export const allowances = pgTable("allowances", {
  /** UUID of the organization, or kind and name of the caller where there is none. */
  name: text("name").primaryKey(),
  /** When the bucket is full again. */
  fullAt: time("full_at").notNull(),
});

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

/** Topics that are not pushed to a person. */
export const mutedTopics = pgTable(
  "muted_topics",
  {
    userId: uuid("user_id").notNull(),
    topic: text("topic").notNull(),
    mutedAt: time("muted_at").notNull().default(now),
  },
  (table) => [primaryKey({ columns: [table.userId, table.topic] })],
);

/** Accounts that are deleted, for good: whatever comes late for one of them is refused. */
export const deletedAccounts = pgTable("deleted_accounts", {
  userId: uuid("user_id").primaryKey(),
  deletedAt: time("deleted_at").notNull().default(now),
});
