/**
 * Real databases for tests: one cluster for a whole run (or one for this process), one migrated template for each set of
 * migration files, and a fresh copy of it for each test. A test that leaves a connection open fails.
 */
import { createHash, createHmac } from "node:crypto";
import { chmod, mkdtemp, readdir, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { connect, identifier, withDatabase } from "../db/connection.ts";
import { migrate } from "../db/migrate.ts";
import { MIGRATIONS_FOLDER, readMigrations } from "../db/migrations.ts";
import { asAdmin, cloneDatabase, type DatabaseUrls, dropDatabase, provisionDatabase } from "../db/provision.ts";
import { allDone } from "../dev/all-done.ts";
import { startPostgres } from "../dev/postgres.ts";
import { findPlace } from "../dev/postgres-folder.ts";
import { type ClusterRecipe, copyPreparedCluster } from "./prepared-cluster.ts";

/** The variable by which a run's shared cluster reaches the processes of its test files. */
export const CLUSTER_VARIABLE = "CONCIERGE_TEST_DATABASE_URL";

const NOT_DURABLE = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  min_wal_size: "32MB",
  max_wal_size: "128MB",
};
/** The series that every database gets first. */
const PLATFORM = "platform";
const MEMORY_FOLDER = "/dev/shm";
const MEMORY_NEEDED_BYTES = 2 * 1024 ** 3;
const CLOSING_TIMEOUT_MS = 5_000;
const CLOSING_POLL_MS = 5;

export interface TestCluster extends AsyncDisposable {
  /** The superuser's URL. */
  readonly adminUrl: string;
}

/** There is a job role in each, whether the service uses it or not. */
type AllUrls = Required<DatabaseUrls>;

export interface TestDatabase extends AllUrls, AsyncDisposable {
  readonly name: string;
}

/** Starts a cluster that forgets everything: in a temporary folder, without fsync. A prepared one has every template from the start. */
export async function startTestCluster({ isPrepared = false } = {}): Promise<TestCluster> {
  const folder = await temporaryFolder();
  // a root process runs the server as another account, which must get in
  await chmod(folder, 0o755);
  if (isPrepared) await copyPreparedCluster(await recipe(folder), folder);
  const server = await startPostgres({ folder, settings: NOT_DURABLE, isTemporary: true });
  return {
    adminUrl: server.url,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A cluster with a template for each service. */
async function recipe(folder: string): Promise<ClusterRecipe> {
  const series = (await readdir(MIGRATIONS_FOLDER)).filter((name) => name !== PLATFORM).sort();
  const migrations = await readMigrations(MIGRATIONS_FOLDER, [PLATFORM, ...series]);
  const { binaries } = await findPlace(folder, undefined);
  const texts = migrations.map(({ file, checksum }) => `${file} ${checksum}`);
  return {
    ingredients: [binaries.folder, binaries.major, ...texts].join("\n"),
    async make(place) {
      await using server = await startPostgres({ folder: place, settings: NOT_DURABLE });
      await allDone(series.map((name) => migratedTemplate(server.url, [PLATFORM, name], MIGRATIONS_FOLDER)));
    },
  };
}

/** Memory, where there is room: making a database is some 300 small files, 8 ms there and 200 ms on a slow disk. */
async function temporaryFolder(): Promise<string> {
  const memory = await statfs(MEMORY_FOLDER).catch(() => undefined);
  const roomy = memory !== undefined && memory.bavail * memory.bsize >= MEMORY_NEEDED_BYTES;
  return mkdtemp(join(roomy ? MEMORY_FOLDER : tmpdir(), "concierge-test-"));
}

let ownCluster: Promise<TestCluster> | undefined;

/**
 * The run's shared cluster, or one of this process. That one is stopped when the process has nothing left to do, and so
 * after every hook of its tests: they may have databases to drop.
 */
export async function testCluster(): Promise<{ adminUrl: string }> {
  const adminUrl = process.env[CLUSTER_VARIABLE];
  if (adminUrl) return { adminUrl };
  ownCluster ??= startOwnCluster();
  return ownCluster;
}

async function startOwnCluster(): Promise<TestCluster> {
  const cluster = await startTestCluster({ isPrepared: true });
  process.once("beforeExit", () => cluster[Symbol.asyncDispose]());
  return cluster;
}

/**
 * A fresh database with the given series applied ("platform" first), for one test. Disposing drops it, and throws if
 * connections to it were left open.
 */
export async function testDatabase(
  series: readonly string[] = ["platform"],
  migrationsFolder = MIGRATIONS_FOLDER,
): Promise<TestDatabase> {
  const { adminUrl } = await testCluster();
  const template = await migratedTemplate(adminUrl, series, migrationsFolder);
  const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
  await cloneDatabase(adminUrl, template.database, name);
  return {
    name,
    ownerUrl: withDatabase(template.ownerUrl, name),
    runtimeUrl: withDatabase(template.runtimeUrl, name),
    jobUrl: withDatabase(template.jobUrl, name),
    [Symbol.asyncDispose]: () => dropWithoutLeak(adminUrl, name),
  };
}

/** Moves the hour of one database: everything that takes its time from concierge_now() sees it. */
export async function setDatabaseOffset(ownerUrl: string, offsetMs: number): Promise<void> {
  if (!Number.isSafeInteger(offsetMs)) throw new Error("the offset is a whole number of milliseconds");
  const sql = connect(ownerUrl, { applicationName: "concierge-test" });
  try {
    await sql.unsafe(`
      create or replace function concierge_now() returns timestamptz language sql volatile parallel safe
      as $$ select clock_timestamp() + interval '${offsetMs} milliseconds' $$`);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

interface Template extends AllUrls {
  database: string;
}

/** By cluster and name: a benchmark has several clusters. */
const templates = new Map<string, Promise<Template>>();

/** The template for these files: made by the first of all processes that asks, then only looked up. */
async function migratedTemplate(adminUrl: string, series: readonly string[], folder: string): Promise<Template> {
  const files = await readMigrations(folder, series);
  const text = files.map(({ file, checksum }) => `${file} ${checksum}`).join("\n");
  const database = `template_${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;
  const place = `${adminUrl} ${database}`;
  let template = templates.get(place);
  if (!template) {
    template = makeTemplate(adminUrl, database, series, folder);
    templates.set(place, template);
  }
  return template;
}

async function makeTemplate(adminUrl: string, database: string, series: readonly string[], folder: string) {
  const [ownerRole, runtimeRole, jobRole] = [`${database}_owner`, `${database}_runtime`, `${database}_job`];
  // every process must come to the same passwords, and only those who have the cluster's
  const secret = new URL(adminUrl).password;
  const password = (role: string) => createHmac("sha256", secret).update(role).digest("base64url");
  const login = (role: string) => ({ role, password: password(role) });
  const urls = {
    ownerUrl: withDatabase(adminUrl, database, login(ownerRole)),
    runtimeUrl: withDatabase(adminUrl, database, login(runtimeRole)),
    jobUrl: withDatabase(adminUrl, database, login(jobRole)),
  };
  const [ownerPassword, runtimePassword] = [password(ownerRole), password(runtimeRole)];
  await asAdmin(adminUrl, async (sql) => {
    const key = Number.parseInt(database.slice(-8), 16);
    await sql`select pg_advisory_lock(${String(key)}::bigint)`;
    if (await isFinished(sql, database)) return;
    await dropDatabase(adminUrl, database);
    const passwords = { ownerPassword, runtimePassword };
    await provisionDatabase(adminUrl, { database, ownerRole, runtimeRole, ...passwords, job: login(jobRole) });
    await migrate({ ownerUrl: urls.ownerUrl, runtimeRole, jobRole, series, folder });
    // the last step: no connection can disturb the copying, and it marks the template as finished
    await sql.unsafe(`alter database ${identifier(database)} allow_connections false`);
  });
  return { database, ...urls };
}

async function isFinished(sql: Sql, database: string): Promise<boolean> {
  const rows = await sql`select 1 from pg_database where datname = ${database} and not datallowconn`;
  return rows.length > 0;
}

async function dropWithoutLeak(adminUrl: string, name: string): Promise<void> {
  const open = await asAdmin(adminUrl, (sql) => connectionsLeft(sql, name));
  await dropDatabase(adminUrl, name);
  if (open.length > 0) throw new Error(`the test left connections to its database open: ${open.join(", ")}`);
}

/** Who is still connected; a connection that was closed just now gets a moment to go. */
async function connectionsLeft(sql: Sql, database: string): Promise<string[]> {
  for (let waitedMs = 0; ; waitedMs += CLOSING_POLL_MS) {
    const rows = await sql<{ name: string }[]>`
      select coalesce(nullif(application_name, ''), 'unnamed') as name from pg_stat_activity
      where datname = ${database} and backend_type = 'client backend'`;
    if (rows.length === 0 || waitedMs >= CLOSING_TIMEOUT_MS) return rows.map(({ name }) => name);
    await delay(CLOSING_POLL_MS);
  }
}
