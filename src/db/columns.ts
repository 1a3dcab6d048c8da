/**
 * What schemas are made of. Times are absolute, and "now" is the hour that a test may offset. Tables with rows of many
 * organizations have policies, which go by the settings that tenants.ts makes; they bind the run-time role, while the
 * job role has one of its own from `migrate`.
 */
import { type SQL, sql } from "drizzle-orm";
import { type AnyPgColumn, customType, type PgPolicy, pgPolicy, timestamp } from "drizzle-orm/pg-core";

export const time = (name: string) => timestamp(name, { withTimezone: true });

export const now = sql`concierge_now()`;

export const bytea = customType<{ data: Uint8Array }>({ dataType: () => "bytea" });

/**
 * A connection that was used before has '' where a new one has nothing: both are nobody. A sub-select is run once a
 * query.
 */
const scope = (setting: string) => sql.raw(`(select nullif(current_setting('concierge.${setting}', true), ''))`);

/** Who a transaction is for, NULL if nobody; for policies that go by rows of another table, too. */
export const currentOrganization: SQL = sql`${scope("organization")}::uuid`;
export const currentPerson: SQL = sql`${scope("person")}::uuid`;
export const currentEmailKey: SQL = scope("email_key");
/** Whether a transaction without an organization is meant to write what belongs to none. */
export const isOfPlatform: SQL = sql`${currentOrganization} is null and ${scope("platform")} = 'on'`;

/** Rows are read and written by transactions of their organization only. */
export const tenantPolicy = (organizationId: AnyPgColumn): PgPolicy =>
  pgPolicy("tenant", { using: sql`${organizationId} = ${currentOrganization}` });

/** Rows are read by transactions of their person, too, whatever the organization. */
export const personPolicy = (userId: AnyPgColumn): PgPolicy =>
  pgPolicy("person", { for: "select", using: sql`${userId} = ${currentPerson}` });

/** Rows are read by transactions of whoever has their address, too, whatever the organization. */
export const addresseePolicy = (emailKey: AnyPgColumn): PgPolicy =>
  pgPolicy("addressee", { for: "select", using: sql`${emailKey} = ${currentEmailKey}` });
