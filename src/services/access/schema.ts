/** Tables of access. Built-in roles are not rows: they are constants in roles.ts. */
import { pgTable, primaryKey, text, uuid } from "drizzle-orm/pg-core";
import { now, time } from "../../db/columns.ts";

/** Roles that an installation made for itself. */
export const roles = pgTable("roles", {
  name: text("name").primaryKey(),
  description: text("description").notNull(),
  createdAt: time("created_at").notNull().default(now),
});

/** Who was given which role. What comes with every account is not here. */
export const roleAssignments = pgTable(
  "role_assignments",
  {
    userId: uuid("user_id").notNull(),
    /** No foreign key: built-in roles are constants, and not everything that gives them will be AssignRole. */
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
  since: time("since").notNull().default(now),
  /** Set for good: no event that comes late makes the account known again. */
  deletedAt: time("deleted_at"),
});
