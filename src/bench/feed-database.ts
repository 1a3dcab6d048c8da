/** Databases for the feed's measurements: as a service's own, with the tables of the measurements beside the feed's. */
import { randomBytes } from "node:crypto";
import { connect, withDatabase } from "../db/connection.ts";
import { migrate } from "../db/migrate.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { provisionDatabase } from "../db/provision.ts";

/** The service whose feed this is taken to be. */
export const SERVICE = "user";
/** The event that is written. */
export const EVENT_TYPE = "concierge.user.v1.UserCreated";

export interface FeedDatabase {
  /** URL of the superuser. */
  adminUrl: string;
  /** URL of the role that services run as. */
  runtimeUrl: string;
}

/** A business row, and an outbox as one would write it without a feed: the same columns and bytes, and no order. */
const TABLES = `
  create table bench_row (id bigint generated always as identity primary key, body text not null);
  create table bench_outbox (
    id bigint generated always as identity primary key, type text not null, subject text not null,
    version bigint not null, payload bytea not null, created_at timestamptz not null default clock_timestamp()
  )`;

/** Makes a database of this name. */
export async function createDatabase(serverUrl: string, name: string): Promise<FeedDatabase> {
  const password = () => randomBytes(16).toString("base64url");
  const runtimeRole = `${name}_runtime`;
  const { ownerUrl, runtimeUrl } = await provisionDatabase(serverUrl, {
    database: name,
    ownerRole: `${name}_owner`,
    runtimeRole,
    ownerPassword: password(),
    runtimePassword: password(),
  });
  const sql = connect(ownerUrl, { applicationName: "bench" });
  await sql.unsafe(TABLES);
  await sql.end();
  // It gives the run-time role its rights on all tables.
  await migrate({ ownerUrl, runtimeRole, series: ["platform", SERVICE], folder: MIGRATIONS_FOLDER });
  return { adminUrl: withDatabase(serverUrl, name), runtimeUrl };
}

/** Milliseconds of a clock that all processes of this machine share. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
