/** Tables of auth. */
import { isNotNull, isNull, sql } from "drizzle-orm";
import { bigint, doublePrecision, index, integer, pgTable, primaryKey, text, uuid } from "drizzle-orm/pg-core";
import { bytea, now, time } from "../../db/columns.ts";

/** A person. */
export const accounts = pgTable("accounts", {
  id: uuid("id").primaryKey(),
  /** What sort of person registered; it never changes. */
  kind: text("kind", { enum: ["user", "artist"] })
    .notNull()
    .default("user"),
  /** Only an active account has sessions. A deleted one keeps its id and nothing that tells of the person. */
  status: text("status", { enum: ["active", "disabled", "deleted"] })
    .notNull()
    .default("active"),
  /** As it was given. */
  email: text("email").notNull(),
  /** The form that is compared: lower case, normal form C. */
  emailKey: text("email_key").notNull().unique("accounts_email_key"),
  /** When the owner first proved to have the address, or the one before it; null until then. */
  emailVerifiedAt: time("email_verified_at"),
  firstName: text("first_name").notNull(),
  lastName: text("last_name").notNull(),
  locale: text("locale").notNull(),
  /** Name that an artist registered with; empty for others. */
  stageName: text("stage_name").notNull().default(""),
  /**
   * Raised to end all of the account's sessions at once; carried by tokens as `gen`. Those who decide alone go by SessionEnded only:
   * who raises it publishes that of every live session, in the same transaction.
   */
  generation: integer("generation").notNull().default(0),
  /** The organization that a login or refresh asked for last; null for none. It gives no right. */
  lastOrganizationId: uuid("last_organization_id"),
  createdAt: time("created_at").notNull().default(now),
});

/** How a person proves who they are. */
export const credentials = pgTable("credentials", {
  accountId: uuid("account_id")
    .primaryKey()
    .references(() => accounts.id, { onDelete: "cascade" }),
  /** PHC string, argon2id; or bcrypt's, as it was imported, until the next login. */
  passwordHash: text("password_hash").notNull(),
  /**
   * Raised with every new password or address: a login in flight with the old one starts no session, older mailed links
   * are dead.
   */
  version: integer("version").notNull().default(1),
});

/** Why a session ended before its time. */
export const END_REASONS = [
  "logout",
  "ended_by_user",
  "ended_by_administrator",
  "password_changed",
  "password_reset",
  "email_verified",
  "account_disabled",
  "account_deleted",
  "refresh_token_reused",
  "too_many_sessions",
] as const;

/** One login, until it ends. */
export const sessions = pgTable(
  "sessions",
  {
    id: uuid("id").primaryKey(),
    accountId: uuid("account_id")
      .notNull()
      .references(() => accounts.id, { onDelete: "cascade" }),
    /** The account's generation when the session started. */
    generation: integer("generation").notNull(),
    /** The client, as it calls itself; may be empty. */
    userAgent: text("user_agent").notNull().default(""),
    /** IP address of the last login or refresh. */
    address: text("address").notNull().default(""),
    createdAt: time("created_at").notNull().default(now),
    /** The last login or refresh. */
    lastUsedAt: time("last_used_at").notNull().default(now),
    expiresAt: time("expires_at").notNull(),
    endedAt: time("ended_at"),
    endReason: text("end_reason", { enum: END_REASONS }),
    /** End of the last access token that was made for it: until then those who decide alone must know that it has ended. */
    tokensExpireAt: time("tokens_expire_at").notNull(),
  },
  (table) => [
    index("sessions_live").on(table.accountId, table.createdAt).where(isNull(table.endedAt)),
    index("sessions_newest").on(table.accountId, table.createdAt),
    index("sessions_ended").on(table.tokensExpireAt).where(isNotNull(table.endedAt)),
    index("sessions_expired").on(table.expiresAt),
  ],
);

/** The refresh tokens of a session, by number: each is used once, and gives the next one. */
export const refreshTokens = pgTable(
  "refresh_tokens",
  {
    sessionId: uuid("session_id")
      .notNull()
      .references(() => sessions.id, { onDelete: "cascade" }),
    number: integer("number").notNull(),
    /** SHA-256; the token itself is nowhere. */
    tokenHash: bytea("token_hash").notNull().unique("refresh_tokens_hash"),
    createdAt: time("created_at").notNull().default(now),
    usedAt: time("used_at"),
    /** SHA-256 of the key under which its use may be repeated, if the client gave one. */
    idempotencyKeyHash: bytea("idempotency_key_hash"),
    /** Name of the key that it was derived with; null for the first one, which is random. */
    keyId: text("key_id"),
  },
  (table) => [primaryKey({ columns: [table.sessionId, table.number] })],
);

/** What mails tell. */
export const MAIL_KINDS = [
  "verify_email",
  "change_email",
  "reset_password",
  "address_taken",
  "email_change_asked",
  "new_login",
  "password_changed",
  "refresh_token_reused",
  "organization_invitation",
] as const;

/** Mails to be sent, and those that were, for a while. */
export const mails = pgTable(
  "mails",
  {
    id: uuid("id").primaryKey(),
    /** Null for an invitation, which goes to an address that may have no account. */
    accountId: uuid("account_id").references(() => accounts.id, { onDelete: "cascade" }),
    kind: text("kind", { enum: MAIL_KINDS }).notNull(),
    /** Address that it goes to; of a change, the new one. */
    recipient: text("recipient").notNull(),
    /** The recipient's inbox, which has a limit (inboxKeyOf); of invitations only. */
    recipientKey: text("recipient_key"),
    /** Name of what somebody is invited to; of invitations only. */
    organizationName: text("organization_name").notNull().default(""),
    /** IP address of the call that it tells of. */
    address: text("address").notNull(),
    /**
     * SHA-256 of the token in its link, which is derived from the id; the token itself is nowhere. Null for a mail
     * without a link.
     */
    tokenHash: bytea("token_hash").unique("mails_token_hash"),
    /** Name of the key that the token is derived with. */
    keyId: text("key_id").notNull(),
    /** The credential's version; in another one the token is dead. */
    credentialVersion: integer("credential_version").notNull(),
    tokenUsedAt: time("token_used_at"),
    createdAt: time("created_at").notNull().default(now),
    /** Tries so far. Who marks the mail says which try it was: a late one changes nothing. */
    attempts: integer("attempts").notNull().default(0),
    /** The token's age counts from here: a mail may have waited. */
    lastAttemptAt: time("last_attempt_at"),
    /** While somebody tries, the end of the time that is left for it. */
    nextAttemptAt: time("next_attempt_at").notNull().default(now),
    sentAt: time("sent_at"),
    givenUpAt: time("given_up_at"),
  },
  (table) => [
    index("mails_waiting").on(table.nextAttemptAt).where(sql`${table.sentAt} is null and ${table.givenUpAt} is null`),
    index("mails_account").on(table.accountId, table.kind, table.createdAt),
    index("mails_invited").on(table.recipientKey, table.createdAt).where(isNotNull(table.recipientKey)),
    index("mails_created").on(table.createdAt),
  ],
);

/**
 * Mails that anybody has asked for, until it is decided whether one is written. One row each, whether an account has the
 * address or not.
 */
export const mailRequests = pgTable(
  "mail_requests",
  {
    id: uuid("id").primaryKey(),
    kind: text("kind", { enum: ["verify_email", "reset_password"] }).notNull(),
    /** The address that was asked for, in the form that is compared. */
    emailKey: text("email_key").notNull(),
    /** Where the call came from, for the mail and the audit log. */
    address: text("address").notNull(),
    userAgent: text("user_agent").notNull(),
    requestId: text("request_id").notNull(),
    askedAt: time("asked_at").notNull().default(now),
    /** While somebody works on it, the end of the time that is left for it. */
    nextAttemptAt: time("next_attempt_at").notNull().default(now),
  },
  (table) => [index("mail_requests_waiting").on(table.nextAttemptAt)],
);

/** Signing keys that were removed in an emergency, by their `kid`: they are good for nothing, whatever is configured. */
export const removedKeys = pgTable("removed_keys", {
  keyId: text("key_id").primaryKey(),
  removedAt: time("removed_at").notNull().default(now),
});

/** How often something may still be tried: passwords of one account, or anything from one address. */
export const attemptBuckets = pgTable(
  "attempt_buckets",
  {
    /** HMAC of whom it counts: neither an e-mail address nor an IP address can be read from it. */
    key: bytea("key").primaryKey(),
    /** Seconds in which one attempt is given back. */
    attemptSeconds: doublePrecision("attempt_seconds").notNull(),
    /** When the next attempt may be made; attempts that were saved up make it a time in the past. */
    freeAt: time("free_at").notNull(),
    /** Since the last success; of accounts only. */
    failures: integer("failures").notNull(),
    /** Attempts that were refused since the last one that was not. */
    refusals: integer("refusals").notNull().default(0),
    /** From then on it says the same as if it were not there. */
    expiresAt: time("expires_at").notNull(),
  },
  (table) => [index("attempt_buckets_expired").on(table.expiresAt)],
);

/** Devices that somebody has logged in from: strangers' failures do not keep them out. */
export const deviceTokens = pgTable(
  "device_tokens",
  {
    /** SHA-256; the token itself is nowhere. */
    tokenHash: bytea("token_hash").primaryKey(),
    accountId: uuid("account_id")
      .notNull()
      .references(() => accounts.id, { onDelete: "cascade" }),
    createdAt: time("created_at").notNull().default(now),
    expiresAt: time("expires_at").notNull(),
  },
  (table) => [
    index("device_tokens_account").on(table.accountId, table.createdAt),
    index("device_tokens_expired").on(table.expiresAt),
  ],
);

/** What happened to accounts and who did it. Append-only for the service; retention is a function of the owner. */
export const auditLog = pgTable(
  "audit_log",
  {
    id: bigint("id", { mode: "bigint" }).primaryKey().generatedAlwaysAsIdentity(),
    at: time("at").notNull().default(now),
    /** What happened, such as "login". */
    action: text("action").notNull(),
    outcome: text("outcome", { enum: ["success", "refused"] }).notNull(),
    /** Why it was refused, or why it was done; may be empty. */
    reason: text("reason").notNull(),
    /** Whom it is about, if that is known. */
    accountId: uuid("account_id"),
    sessionId: uuid("session_id"),
    /** Who did it, such as "user <id>" or "operator <name>"; "anonymous" before a login. */
    actor: text("actor").notNull(),
    address: text("address").notNull(),
    userAgent: text("user_agent").notNull(),
    requestId: text("request_id").notNull(),
  },
  (table) => [index("audit_log_account").on(table.accountId, table.id), index("audit_log_at").on(table.at)],
);

/** The audit log's rows, chained by hashes soon after their commit. Append-only as well. */
export const auditChain = pgTable("audit_chain", {
  position: bigint("position", { mode: "bigint" }).primaryKey(),
  auditId: bigint("audit_id", { mode: "bigint" }).notNull().unique("audit_chain_audit_id"),
  /** SHA-256 of the hash before it and the row. */
  hash: bytea("hash").notNull(),
});
