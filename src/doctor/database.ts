/**
 * Databases, as the roles see them that services connect with: whether a service would start over it, whether the
 * server keeps what it acknowledges, whether there is room for replicas, and whether events go through. Nothing is
 * written.
 */
import type { Sql } from "postgres";
import { connect } from "../db/connection.ts";
import { connectionLimits } from "../db/database.ts";
import { checkSchema, startError } from "../db/migrate.ts";
import type { ServiceDefinition, ServiceValues } from "../service.ts";
import { type Check, type DoctorContext, type Finding, ok, unfit, warning } from "./finding.ts";

/** UNIQUE NULLS NOT DISTINCT, in our migrations, is new in this one. */
const OLDEST_MAJOR = 15;
const JOB_CONNECTIONS = 4;
const MANY_DEAD_ROWS = 10_000;
const LONGEST_WAIT_SECONDS = 5;

export function databaseChecks(context: DoctorContext): Check[] {
  const stored = context.definitions.filter(({ hasDatabase }) => hasDatabase);
  return stored.map((definition) => ({
    what: `${definition.name} database`,
    run: () => examine(definition, context.services[definition.name]!, context.migrationsFolder),
  }));
}

/** Runs work on one connection of a role, which has the limits of a service's connections. */
export async function asRole<T>(url: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = connect(url, { applicationName: "concierge-doctor", settings: connectionLimits, arrays: false });
  try {
    return await work(sql);
  } catch (error) {
    throw startError(error);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function examine(
  definition: ServiceDefinition,
  { databaseUrl, databaseJobUrl: jobUrl, databasePoolSize }: ServiceValues,
  folder: string,
): Promise<Finding[]> {
  const series = ["platform", definition.name];
  await checkSchema({ runtimeUrl: databaseUrl!, jobUrl, series, folder });
  return asRole(databaseUrl!, async (sql) => {
    const server = await readServer(sql);
    return [
      ok(`PostgreSQL ${server.version}, and the schema is that of this version`),
      ...serverFindings(server),
      ...roomFindings(server, connectionsOf(definition, databasePoolSize!)),
      ...(await ownershipFindings(sql)),
      ...(await deadRowFindings(sql)),
      ...(definition.events ? await eventFindings(sql) : []),
      ...(await parkedFindings(sql)),
    ];
  });
}

/** The most that one process opens: calls, the probe, what waits for notifications, and what it does by itself. */
function connectionsOf({ events, hasTenants }: ServiceDefinition, poolSize: number): number {
  return poolSize + 1 + (events ? 1 : 0) + (hasTenants ? JOB_CONNECTIONS : 0);
}

interface Server {
  version: string;
  major: number;
  isEncrypted: boolean;
  isRemote: boolean;
  isStandby: boolean;
  /** Settings that are off although an acknowledged write can be lost without them. */
  unsafe: string[];
  /** How many connections there may be of all roles without power. */
  connections: number;
}

async function readServer(sql: Sql): Promise<Server> {
  const [row] = await sql<(Omit<Server, "unsafe"> & { unsafe: string })[]>`
    select split_part(current_setting('server_version'), ' ', 1) as version,
      current_setting('server_version_num')::int / 10000 as major,
      coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as "isEncrypted",
      inet_client_addr() is distinct from inet_server_addr() as "isRemote",
      pg_is_in_recovery() as "isStandby",
      (select coalesce(string_agg(name, ',' order by name), '') from pg_settings
        where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off') as unsafe,
      current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int as connections`;
  return { ...row!, unsafe: row!.unsafe.split(",").filter((name) => name !== "") };
}

function serverFindings({ major, isEncrypted, isRemote, isStandby, unsafe }: Server): Finding[] {
  const findings: Finding[] = [];
  if (major < OLDEST_MAJOR) findings.push(unfit(`PostgreSQL ${major} is too old`, `use ${OLDEST_MAJOR} or newer`));
  if (isStandby) findings.push(unfit("it is a standby, and nobody decides by what that knows", "name the primary"));
  if (isRemote && !isEncrypted) {
    findings.push(warning("it is on another host, without TLS", "set sslmode=verify-full in the URL"));
  }
  if (unsafe.length > 0) {
    const finding = `${unsafe.join(", ")} off: a crash can lose what was acknowledged`;
    findings.push(warning(finding, "turn on what is not a test's server"));
  }
  return findings;
}

/** While a process is replaced, there are two. */
function roomFindings({ connections }: Server, needed: number): Finding[] {
  const counts = `a process opens up to ${needed} connections, and the server allows all roles ${connections}`;
  if (needed * 2 <= connections) return [ok(`${counts}: room for ${Math.floor(connections / needed)} processes`)];
  const remedy = "raise max_connections, or lower the service's DATABASE_POOL_SIZE";
  return [needed > connections ? unfit(counts, remedy) : warning(`${counts}: no room for two processes`, remedy)];
}

/** Policies bind nobody who owns a table; where there are none, the role could still drop it. */
async function ownershipFindings(sql: Sql): Promise<Finding[]> {
  const [owned] = await sql<{ tables: number }[]>`
    select count(*)::int as tables from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and pg_has_role(relowner, 'member')`;
  if (owned!.tables === 0) return [];
  return [warning(`its role owns ${owned!.tables} tables`, "let another role own them, as `concierge provision` does")];
}

async function deadRowFindings(sql: Sql): Promise<Finding[]> {
  const tables = await sql<{ name: string; dead: number }[]>`
    select relname as name, n_dead_tup::int as dead from pg_stat_user_tables
    where n_dead_tup > greatest(n_live_tup, ${MANY_DEAD_ROWS}) order by n_dead_tup desc limit 3`;
  const remedy = "see whether autovacuum runs, and whether an old transaction or a replication slot holds it up";
  return tables.map(({ name, dead }) => warning(`${name} has ${dead} dead rows, more than live ones`, remedy));
}

async function eventFindings(sql: Sql): Promise<Finding[]> {
  const [feed] = await sql<{ isRestored: boolean; waiting: number; seconds: number }[]>`
    select (select restores > 0 from feed_state) as "isRestored", count(*)::int as waiting,
      coalesce(extract(epoch from concierge_now() - min(created_at)), 0)::int as seconds
    from feed_outbox where position is null`;
  const { isRestored, waiting, seconds } = feed!;
  const restored = isRestored ? "; it was restored" : "";
  if (seconds <= LONGEST_WAIT_SECONDS) return [ok(`${waiting} events wait for their place in the feed${restored}`)];
  const finding = `${waiting} events wait for their place in the feed, the oldest for ${seconds} s${restored}`;
  return [warning(finding, "start the service; if it runs, look for transactions that stay open")];
}

async function parkedFindings(sql: Sql): Promise<Finding[]> {
  const parked = await sql<{ source: string; events: number }[]>`
    select source, count(*)::int as events from feed_parked group by source order by source`;
  const remedy = "their effect failed again and again: the service's log says why; they are tried again each minute";
  return parked.map(({ source, events }) => warning(`${events} events of ${source} are parked`, remedy));
}
