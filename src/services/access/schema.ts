/**
 * Tables of access. Built-in roles and Concierge's own permissions are not rows: they are constants in roles.ts and permissions.ts. Rows
 * without an organization belong to the platform.
 */
import { sql } from "drizzle-orm";
import {
  type AnyPgColumn,
  boolean,
  check,
  index,
  type PgPolicy,
  pgPolicy,
  pgTable,
  text,
  unique,
  uuid,
} from "drizzle-orm/pg-core";
import { currentOrganization, isOfPlatform, now, time } from "../../db/columns.ts";

/**
 * As tenantPolicy() in columns.ts, and transactions without an organization have the rows of the platform; they write some only if they
 * say so (changes.ts): an organization that was forgotten must not become everybody's.
 */
const tenantOrPlatformPolicy = (organizationId: AnyPgColumn): PgPolicy =>
  pgPolicy("tenant", {
    using: sql`${organizationId} is not distinct from ${currentOrganization}`,
    withCheck: sql`case when ${organizationId} is null then ${isOfPlatform} else ${organizationId} = ${currentOrganization} end`,
  });

/** What the product's own methods ask for. Never deleted: roles may have it. */
export const permissions = pgTable("permissions", {
  name: text("name").primaryKey(),
  description: text("description").notNull(),
  createdAt: time("created_at").notNull().default(now),
});

/** Roles that were made: for every organization, or by one of them for itself. */
export const roles = pgTable(
  "roles",
  {
    id: uuid("id").primaryKey(),
    organizationId: uuid("organization_id"),
    name: text("name").notNull(),
    description: text("description").notNull(),
    /** Names, in the order of code units. */
    permissions: text("permissions").array().notNull(),
    createdAt: time("created_at").notNull().default(now),
  },
  (table) => [
    unique("roles_name").on(table.organizationId, table.name).nullsNotDistinct(),
    tenantOrPlatformPolicy(table.organizationId),
    pgPolicy("platform", { for: "select", using: sql`${table.organizationId} is null` }),
  ],
);

/** Who was given which role, or one permission without a role. What comes with an account or a membership is not here. */
export const assignments = pgTable(
  "assignments",
  {
    /** Version 7: later ones are greater. */
    id: uuid("id").primaryKey(),
    userId: uuid("user_id").notNull(),
    organizationId: uuid("organization_id"),
    /** For whose time it counts: who comes back has another membership, and nothing of this. Null on the platform. */
    membershipId: uuid("membership_id"),
    /** The only branch in which it counts. */
    branchId: uuid("branch_id"),
    roleId: uuid("role_id").references(() => roles.id, { onDelete: "cascade" }),
    permission: text("permission"),
    /** UUID of an account, or name of a backend or operator. */
    assignedBy: text("assigned_by").notNull(),
    assignedAt: time("assigned_at").notNull().default(now),
  },
  (table) => [
    unique("assignments_once")
      .on(table.organizationId, table.userId, table.membershipId, table.roleId, table.permission, table.branchId)
      .nullsNotDistinct(),
    index("assignments_in_order").on(table.organizationId, table.id),
    index("assignments_of_user").on(table.userId),
    index("assignments_of_role").on(table.roleId),
    check("assignments_of_one", sql`num_nonnulls(role_id, permission) = 1`),
    check("assignments_branch", sql`branch_id is null or organization_id is not null`),
    check("assignments_membership", sql`(membership_id is null) = (organization_id is null)`),
    tenantOrPlatformPolicy(table.organizationId),
  ],
);

/** Who has the built-in role admin. */
export const admins = pgTable("admins", {
  userId: uuid("user_id").primaryKey(),
  /** Name of the operator who gave it. */
  assignedBy: text("assigned_by").notNull(),
  assignedAt: time("assigned_at").notNull().default(now),
});

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
