/**
 * Applies migrations: one runner at a time, each migration with its bookkeeping row in one transaction, so a kill at
 * any moment leaves it applied or not. `serve` never migrates, it only checks; `migrate` and `dev` apply.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { ExitCode, StartupError } from "../errors.ts";
import { connect, connectOnce, identifier } from "./connection.ts";
import { connectionLimits } from "./database.ts";
import { DatabaseUnavailable, isUnavailable, sqlStateOf, withoutData } from "./errors.ts";
import {
  type AppliedMigration,
  BOOKKEEPING,
  comparePlan,
  type Migration,
  type MigrationPlan,
  readApplied,
  readDownScript,
  readMigrations,
} from "./migrations.ts";
import { admitJobs, jobRoleProblems, runtimeRoleProblems } from "./policies.ts";

export interface MigrateOptions {
  /** URL of the role that owns the database. */
  ownerUrl: string;
  /** The role that gets exactly the rights of a running service. */
  runtimeRole: string;
  /** A role that gets the same rights, and sees the rows of all organizations. */
  jobRole?: string | undefined;
  /** In the order of application: "platform" first, then the service's own. */
  series: readonly string[];
  /** The folder that holds one folder for each series. */
  folder: string;
  /** Stops before the next statement; the migration under way is rolled back. */
  signal?: AbortSignal;
}

export interface MigrateDownOptions extends Omit<MigrateOptions, "series"> {
  series: string;
}

/** One key for every database: advisory locks are counted per database. */
const MIGRATION_LOCK = 0x636f6e02;
const LOCK_POLL_MS = 100;
/** A migration that waits longer for a table makes every query behind it wait too: it fails and can be run again. */
const LOCK_TIMEOUT_MS = 10_000;
/** How soon the server notices, inside a long statement, that the runner was killed; until then it holds the lock. */
const CLIENT_CHECK_INTERVAL_MS = 500;
/** What a migration says of a table (COMMENT ON TABLE) whose rows the service may add and read, and nothing else. */
const APPEND_ONLY = "append-only";
/** Rights: a role that may not read the bookkeeping table was never given any by a migration. */
const INSUFFICIENT_PRIVILEGE = "42501";
/** The database or the login does not exist, or the password is wrong. */
const REFUSED_LOGIN = /^(3D000|28000|28P01)$/;
/** At connecting: a pooler, such as PgBouncer, that does not pass on what we set for each connection. */
const REFUSED_SETTINGS = "08P01";

/**
 * Applies what is not applied yet and grants the two roles their rights; returns the plan that it carried out. Throws
 * StartupError for anything a person must look at, DatabaseUnavailable if the database cannot be reached.
 */
export async function migrate(options: MigrateOptions): Promise<MigrationPlan> {
  const { runtimeRole, jobRole } = options;
  if (runtimeRole === jobRole) throw new StartupError("the job role must be another than the run-time role");
  const files = await readMigrations(options.folder, options.series);
  return asOwner(options.ownerUrl, async (sql) => {
    await takeLock(sql, options.signal);
    await createBookkeeping(sql);
    const plan = soundPlan(files, await readApplied(sql, options.series));
    for (const migration of plan.pending) await apply(sql, migration, options.signal);
    await inTransaction(sql, async () => {
      await grantRights(sql, runtimeRole);
      if (jobRole === undefined) return;
      await grantRights(sql, jobRole);
      await admitJobs(sql, jobRole);
    });
    return plan;
  });
}

/** What `migrate` would do now, or the error that it would stop with. Changes nothing and waits for no other runner. */
export async function planMigrations(options: MigrateOptions): Promise<MigrationPlan> {
  const files = await readMigrations(options.folder, options.series);
  return asOwner(options.ownerUrl, async (sql) => soundPlan(files, await readApplied(sql, options.series)));
}

function soundPlan(files: readonly Migration[], applied: readonly AppliedMigration[]): MigrationPlan {
  const plan = comparePlan(files, applied);
  if (plan.problems.length > 0) throw schemaError(plan.problems);
  return plan;
}

/**
 * Undoes the newest applied migration of one series with its down script; returns its file. Throws StartupError if
 * nothing is applied or there is no down script: older ones are not kept, production goes forward only.
 */
export async function migrateDown(options: MigrateDownOptions): Promise<string> {
  return asOwner(options.ownerUrl, async (sql) => {
    await takeLock(sql, options.signal);
    const newest = (await readApplied(sql, [options.series])).at(-1);
    if (!newest) throw new StartupError(`${options.series}: no migration is applied`);
    const statements = await readDownScript(options.folder, newest);
    const file = `${newest.series}/${newest.name}.down.sql`;
    if (!statements) throw new StartupError(`${file}: there is no such down script, so this cannot be undone`);
    await inTransaction(sql, async () => {
      await sql`delete from concierge_migration where series = ${newest.series} and name = ${newest.name}`;
      await runStatements(sql, statements, file, options.signal);
    });
    return file;
  });
}

export interface SchemaCheck {
  runtimeUrl: string;
  /** Of a service that keeps rows of many organizations; then it is also checked what the two roles can see. */
  jobUrl?: string | undefined;
  series: readonly string[];
  folder: string;
}

/**
 * Checks, as the run-time role and as the job role, that the database is what these files make, or what expansions of a
 * newer release have made of it: then it returns their files. Also that connections get the time limits that we set, and
 * that policies bind the roles. Throws StartupError (exit code 78) naming every file that is missing, edited, unknown or
 * out of order, and every table that is not safe; DatabaseUnavailable if it cannot be reached.
 */
export async function checkSchema({ runtimeUrl, jobUrl, series, folder }: SchemaCheck): Promise<string[]> {
  const files = await readMigrations(folder, series);
  const check = (sql: Sql) => checkFiles(sql, files, series);
  if (jobUrl === undefined) return checkAs(runtimeUrl, check);
  const ahead = await checkAs(runtimeUrl, check, runtimeRoleProblems);
  await checkAs(jobUrl, check, jobRoleProblems);
  return ahead;
}

async function checkAs(
  url: string,
  check: (sql: Sql) => Promise<string[]>,
  roleProblems?: (sql: Sql) => Promise<string[]>,
): Promise<string[]> {
  const sql = connect(url, { applicationName: "concierge-check", settings: connectionLimits, arrays: false });
  try {
    await checkLimits(sql);
    const ahead = await check(sql);
    const problems = (await roleProblems?.(sql)) ?? [];
    if (problems.length > 0) throw problemError("the database does not keep organizations apart", problems);
    return ahead;
  } catch (error) {
    throw startError(error);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function checkFiles(sql: Sql, files: readonly Migration[], series: readonly string[]) {
  const { pending, ahead, problems } = comparePlan(files, await readApplied(sql, series));
  const missing = pending.map(({ file }) => `${file}: not applied; run \`concierge migrate\``);
  if (missing.length + problems.length > 0) throw schemaError([...missing, ...problems]);
  return ahead;
}

/** A pooler may drop settings without a word; without these limits a lock could be waited for all day. */
async function checkLimits(sql: Sql): Promise<void> {
  const missing = await sql<{ name: string }[]>`
    select name from pg_settings where name in ${sql(Object.keys(connectionLimits))} and setting = '0' order by name`;
  if (missing.length === 0) return;
  throw new StartupError(
    `what stands before the database drops our settings (${missing.map(({ name }) => name).join(", ")}): ` +
      "connect directly, or set them for the role",
  );
}

/** Does the work over one connection, the owner's, which is never replaced; so the lock stays, or everything fails. */
async function asOwner<T>(ownerUrl: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const settings = { lock_timeout: LOCK_TIMEOUT_MS, client_connection_check_interval: CLIENT_CHECK_INTERVAL_MS };
  const sql = connectOnce(ownerUrl, { applicationName: "concierge-migrate", settings });
  try {
    await requireDirect(sql);
    return await work(sql);
  } catch (error) {
    throw startError(error);
  } finally {
    await sql.end({ timeout: 0 });
  }
}

/** Behind a pooler that hands out connections for a transaction, the lock would outlive its runner, and stop all later ones. */
async function requireDirect(sql: Sql): Promise<void> {
  const [limit] = await sql`select setting from pg_settings where name = 'lock_timeout'`;
  if (limit!.setting === String(LOCK_TIMEOUT_MS)) return;
  throw new StartupError("what stands before the database drops our settings: migrations need the database itself");
}

/** Takes the lock that lets one runner work at a time; the connection's end releases it. Polls, to be stopped at once. */
async function takeLock(sql: Sql, signal: AbortSignal | undefined): Promise<void> {
  for (;;) {
    signal?.throwIfAborted();
    const [row] = await sql`select pg_try_advisory_lock(${MIGRATION_LOCK}) as taken`;
    if (row!.taken) return;
    await delay(LOCK_POLL_MS, undefined, { signal });
  }
}

async function createBookkeeping(sql: Sql): Promise<void> {
  await sql.unsafe(BOOKKEEPING);
  // asked first: ADD COLUMN IF NOT EXISTS would wait for whoever reads the table, a dump for one, to add nothing
  const column = await sql`
    select 1 from pg_attribute where attrelid = 'concierge_migration'::regclass and attname = 'is_expansion'`;
  if (column.length > 0) return;
  await sql`alter table concierge_migration add column is_expansion boolean not null default false`;
}

async function apply(sql: Sql, migration: Migration, signal: AbortSignal | undefined): Promise<void> {
  const { series, name, checksum, isExpansion, statements, file } = migration;
  await inTransaction(sql, async () => {
    // first: if another runner is at it in spite of the lock, one of the two stops here
    await sql`
      insert into concierge_migration (series, name, checksum, is_expansion)
      values (${series}, ${name}, ${checksum}, ${isExpansion})`;
    await runStatements(sql, statements, file, signal);
  });
}

async function runStatements(sql: Sql, statements: string[], file: string, signal: AbortSignal | undefined) {
  for (const [index, statement] of statements.entries()) {
    signal?.throwIfAborted();
    try {
      await sql.unsafe(statement);
    } catch (error) {
      if (isUnavailable(error)) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new StartupError(`${file}: statement ${index + 1} failed: ${reason}`, ExitCode.failure);
    }
  }
  signal?.throwIfAborted();
}

async function inTransaction(sql: Sql, work: () => Promise<void>): Promise<void> {
  await sql`begin`;
  try {
    await work();
    await sql`commit`;
  } catch (error) {
    // without the connection the server has rolled back already, and postgres.js must not be asked on a broken one
    if (!isUnavailable(error)) await sql`rollback`;
    throw error;
  }
}

/** Exactly these rights, whatever it had before; in one transaction, so a running service never sees fewer. */
async function grantRights(sql: Sql, name: string): Promise<void> {
  const role = identifier(name);
  await sql.unsafe(`
    revoke all on all tables in schema public from ${role};
    revoke all on all sequences in schema public from ${role};
    revoke all on all functions in schema public from ${role}, public;
    grant select, insert, update, delete on all tables in schema public to ${role};
    grant usage on all sequences in schema public to ${role};
    grant execute on all functions in schema public to ${role};
    revoke insert, update, delete on concierge_migration from ${role};
  `);
  const appendOnly = await sql<{ name: string }[]>`
    select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and obj_description(oid, 'pg_class') = ${APPEND_ONLY}`;
  for (const table of appendOnly) await sql.unsafe(`revoke update, delete on ${identifier(table.name)} from ${role}`);
}

function schemaError(problems: string[]): StartupError {
  return problemError("the database does not match the migrations", problems);
}

function problemError(what: string, problems: string[]): StartupError {
  return new StartupError(`${what}:\n${problems.map((problem) => `  ${problem}`).join("\n")}`, ExitCode.config);
}

/** Tells a database to wait for from one that will never let us in; everything else stays what it is. */
export function startError(error: unknown): unknown {
  if (error instanceof StartupError) return error;
  if (sqlStateOf(error) === REFUSED_SETTINGS) {
    return new StartupError(
      "what stands before the database refuses our settings (SQLSTATE 08P01): connect directly, or let it ignore " +
        `${Object.keys(connectionLimits).join(", ")} and set them for the role`,
    );
  }
  if (isUnavailable(error))
    return new DatabaseUnavailable("the database is not available", { cause: withoutData(error) });
  const state = sqlStateOf(error) ?? "";
  if (state === INSUFFICIENT_PRIVILEGE) {
    return new StartupError("the database role has no rights on the schema: run `concierge migrate`", ExitCode.config);
  }
  if (REFUSED_LOGIN.test(state)) {
    return new StartupError(
      `the database refuses the login (SQLSTATE ${state}): the role, its password or the database is wrong or not made yet`,
      ExitCode.config,
    );
  }
  return error;
}
