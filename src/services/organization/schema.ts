/** Tables of organization. */
import type { JsonObject } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import {
  type AnyPgColumn,
  date,
  index,
  integer,
  jsonb,
  pgPolicy,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import {
  addresseePolicy,
  currentEmailKey,
  currentPerson,
  now,
  personPolicy,
  tenantPolicy,
  time,
} from "../../db/columns.ts";

/** What a member is. */
export const MEMBER_ROLES = ["member", "admin", "owner"] as const;

/** Whatever people are members of. A deleted one stays as a row: its slug is not given again. */
export const organizations = pgTable(
  "organizations",
  {
    id: uuid("id").primaryKey(),
    name: text("name").notNull(),
    slug: text("slug").notNull().unique("organizations_slug"),
    plan: text("plan").notNull().default("free"),
    status: text("status", { enum: ["active", "suspended", "deleted"] })
      .notNull()
      .default("active"),
    /** In the order of code units. */
    modulesEnabled: text("modules_enabled").array().notNull().default(sql`'{}'`),
    settings: jsonb("settings").$type<JsonObject>().notNull().default({}),
    createdAt: time("created_at").notNull().default(now),
  },
  (table) => [tenantPolicy(table.id), ...seenFrom(table.id)],
);

/** Members see their organizations, and whoever is invited those that have asked. */
function seenFrom(id: AnyPgColumn) {
  const theirs = sql`${id} in (select organization_id from memberships where user_id = ${currentPerson})`;
  const asked = sql`${id} in (select organization_id from invitations where email_key = ${currentEmailKey})`;
  return [pgPolicy("person", { for: "select", using: theirs }), pgPolicy("addressee", { for: "select", using: asked })];
}

/** Who is a member of what. One of the rows of an organization that is not deleted is an owner's. */
export const memberships = pgTable(
  "memberships",
  {
    /** Of this membership alone: whoever leaves and comes back has another one. */
    id: uuid("id").notNull().defaultRandom(),
    organizationId: uuid("organization_id")
      .notNull()
      .references(() => organizations.id),
    userId: uuid("user_id").notNull(),
    role: text("role", { enum: MEMBER_ROLES }).notNull(),
    since: time("since").notNull().default(now),
  },
  (table) => [
    primaryKey({ columns: [table.organizationId, table.userId] }),
    index("memberships_in_order").on(table.organizationId, table.since, table.userId),
    index("memberships_of_user").on(table.userId, table.since, table.organizationId),
    tenantPolicy(table.organizationId),
    personPolicy(table.userId),
  ],
);

/** Who was asked to become a member. */
export const invitations = pgTable(
  "invitations",
  {
    id: uuid("id").primaryKey(),
    organizationId: uuid("organization_id")
      .notNull()
      .references(() => organizations.id),
    /** As it was given. */
    email: text("email").notNull(),
    /** The form that is compared: lower case, normal form C, as auth compares addresses. */
    emailKey: text("email_key").notNull(),
    role: text("role", { enum: MEMBER_ROLES }).notNull(),
    invitedBy: uuid("invited_by").notNull(),
    createdAt: time("created_at").notNull().default(now),
    expiresAt: time("expires_at").notNull(),
    /** When it was used, declined, taken back or replaced; null while it is open. */
    endedAt: time("ended_at"),
  },
  (table) => [
    uniqueIndex("invitations_open").on(table.organizationId, table.emailKey).where(sql`ended_at is null`),
    index("invitations_of_address").on(table.emailKey, table.id).where(sql`ended_at is null`),
    index("invitations_in_order").on(table.organizationId, table.id),
    index("invitations_made").on(table.createdAt),
    tenantPolicy(table.organizationId),
    addresseePolicy(table.emailKey),
  ],
);

/** Places of organizations. */
export const branches = pgTable(
  "branches",
  {
    id: uuid("id").primaryKey(),
    organizationId: uuid("organization_id")
      .notNull()
      .references(() => organizations.id),
    name: text("name").notNull(),
    createdAt: time("created_at").notNull().default(now),
    closedAt: time("closed_at"),
  },
  (table) => [
    uniqueIndex("branches_open").on(table.organizationId, table.name).where(sql`closed_at is null`),
    index("branches_in_order").on(table.organizationId, table.name, table.id),
    tenantPolicy(table.organizationId),
  ],
);

/** How often a person has done what is counted, each day by UTC. Stays when what was made is gone. */
export const personCounters = pgTable(
  "person_counters",
  {
    userId: uuid("user_id").notNull(),
    what: text("what", { enum: ["invitations", "organizations"] }).notNull(),
    day: date("day").notNull(),
    count: integer("count").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.what, table.day] }),
    index("person_counters_by_day").on(table.day),
  ],
);

/** Accounts that are deleted, for good: nobody becomes a member under their ids. */
export const deletedAccounts = pgTable("deleted_accounts", {
  userId: uuid("user_id").primaryKey(),
  deletedAt: time("deleted_at").notNull().default(now),
});
