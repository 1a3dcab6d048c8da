/** Tables of access. Built-in roles are not rows: they are constants in roles.ts. */
import { sql } from "drizzle-orm";
import { boolean, check, pgTable, primaryKey, text, uuid } from "drizzle-orm/pg-core";
import { now, time } from "../../db/columns.ts";

/** Roles that an installation made for itself. */
export const roles = pgTable("roles", {
  name: text("name").primaryKey(),
  description: text("description").notNull(),
  createdAt: time("created_at").notNull().default(now),
});

/** Who was given which role. What comes with an account is not here. */
export const roleAssignments = pgTable(
  "role_assignments",
  {
    userId: uuid("user_id").notNull(),
    /** No foreign key: built-in roles are constants, and admin is given, too. */
    role: text("role").notNull(),
    /** Name of the backend or operator that gave it. */
    assignedBy: text("assigned_by").notNull(),
    assignedAt: time("assigned_at").notNull().default(now),
  },
  (table) => [primaryKey({ columns: [table.userId, table.role] })],
);

/** Accounts that access has heard of in auth's feed; one that is not here may still be there. */
export const knownAccounts = pgTable("known_accounts", {
  userId: uuid("user_id").primaryKey(),
  /** It never changes. */
  kind: text("kind", { enum: ["user", "artist"] }).notNull(),
  since: time("since").notNull().default(now),
  /** Set for good: no event that comes late makes the account known again. */
  deletedAt: time("deleted_at"),
});

/** That the first administrator was made, and who it was: at most one row, for ever. Who takes admin from somebody locks it. */
export const firstAdmin = pgTable(
  "first_admin",
  {
    /** True: a second row would have the same key. */
    only: boolean("only").primaryKey().default(true),
    userId: uuid("user_id").notNull(),
    madeAt: time("made_at").notNull().default(now),
  },
  (table) => [check("first_admin_only", sql`${table.only}`)],
);
