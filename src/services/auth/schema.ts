/** Tables of auth. */
import { isNotNull } from "drizzle-orm";
import { index, integer, pgTable, primaryKey, text, uuid } from "drizzle-orm/pg-core";
import { bytea, now, time } from "../../db/columns.ts";

/** A person. */
export const accounts = pgTable("accounts", {
  id: uuid("id").primaryKey(),
  /** As it was given. */
  email: text("email").notNull(),
  /** The form that is compared: lower case, normal form C. */
  emailKey: text("email_key").notNull().unique("accounts_email_key"),
  firstName: text("first_name").notNull(),
  lastName: text("last_name").notNull(),
  locale: text("locale").notNull(),
  /**
   * Raised to end all of the account's sessions at once; carried by tokens as `gen`. Those who decide alone go by SessionEnded only:
   * who raises it publishes that of every live session, in the same transaction.
   */
  generation: integer("generation").notNull().default(0),
  createdAt: time("created_at").notNull().default(now),
});

/** How a person proves who they are. */
export const credentials = pgTable("credentials", {
  accountId: uuid("account_id")
    .primaryKey()
    .references(() => accounts.id, { onDelete: "cascade" }),
  /** PHC string, argon2id. */
  passwordHash: text("password_hash").notNull(),
  /** Raised with every new password, so that a login in flight with the old one starts no session. */
  version: integer("version").notNull().default(1),
});

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
    createdAt: time("created_at").notNull().default(now),
    expiresAt: time("expires_at").notNull(),
    endedAt: time("ended_at"),
    /** End of the last access token that was made for it: until then those who decide alone must know that it has ended. */
    tokensExpireAt: time("tokens_expire_at").notNull(),
  },
  (table) => [
    index("sessions_account").on(table.accountId),
    index("sessions_ended").on(table.tokensExpireAt).where(isNotNull(table.endedAt)),
  ],
);

/** The refresh tokens of a session, by number; only the newest unused one counts. */
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
  },
  (table) => [primaryKey({ columns: [table.sessionId, table.number] })],
);
