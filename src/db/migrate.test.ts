import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { Sql } from "postgres";
import { ExitCode, StartupError } from "../errors.ts";
import { testCluster } from "../testing/cluster.ts";
import { describeSchema } from "../testing/schema.ts";
import { until } from "../testing/until.ts";
import { connect } from "./connection.ts";
import { DatabaseUnavailable } from "./errors.ts";
import { checkSchema, migrate, migrateDown } from "./migrate.ts";
import { dropDatabase, provisionDatabase } from "./provision.ts";

const DRIZZLE = fileURLToPath(new URL("../../drizzle", import.meta.url));
const MIGRATE = new URL("./migrate.ts", import.meta.url).href;

/** An empty provisioned database and a folder with the real platform series and a made-up service `shop`. */
async function setUp(t: TestContext, shop: Record<string, string> = {}) {
  const { adminUrl } = await testCluster();
  const database = `migrate_${crypto.randomUUID()}`;
  const [ownerRole, runtimeRole] = [`${database}_o`, `${database}_r`];
  const passwords = { ownerPassword: crypto.randomUUID(), runtimePassword: crypto.randomUUID() };
  const urls = await provisionDatabase(adminUrl, { database, ownerRole, runtimeRole, ...passwords });
  const folder = await mkdtemp(join(tmpdir(), "concierge-migrations-"));
  await cp(join(DRIZZLE, "platform"), join(folder, "platform"), { recursive: true });
  await mkdir(join(folder, "shop"));
  const write = (name: string, text: string) => writeFile(join(folder, "shop", name), text);
  for (const [name, text] of Object.entries(shop)) await write(name, text);
  const admin = connect(adminUrl, { applicationName: "test" });
  const owner = connect(urls.ownerUrl, { applicationName: "test" });
  t.after(async () => {
    await owner.end();
    await dropDatabase(adminUrl, database);
    await admin.unsafe(`drop role "${ownerRole}"; drop role "${runtimeRole}"`);
    await admin.end();
    await rm(folder, { recursive: true, force: true });
  });
  const series = ["platform", "shop"];
  const options = { ownerUrl: urls.ownerUrl, runtimeRole, series, folder };
  const check = () => checkSchema({ runtimeUrl: urls.runtimeUrl, series, folder });
  return { ...urls, adminUrl, database, runtimeRole, folder, write, owner, admin, options, check };
}

const SHOP = {
  "0000_item.sql": `CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
--> statement-breakpoint
CREATE INDEX item_name ON item (name);`,
  "0001_price.sql": "ALTER TABLE item ADD COLUMN price bigint NOT NULL DEFAULT 0;",
  "0001_price.down.sql": "ALTER TABLE item DROP COLUMN price;",
};

/** A StartupError for the operator's eyes: exit code 78 and the file's name. */
function stops(...texts: string[]) {
  return (error: unknown) => {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, ExitCode.config);
    for (const text of texts) assert.ok(error.message.includes(text), error.message);
    return true;
  };
}

test("migrations are applied once, in order, and the check is content", async (t) => {
  const { options, check } = await setUp(t, SHOP);
  const platform = ["platform/0000_platform.sql", "platform/0001_feed.sql", "platform/0002_feed_floor.sql"];
  assert.deepEqual(await migrate(options), [...platform, "shop/0000_item.sql", "shop/0001_price.sql"]);
  assert.deepEqual(await migrate(options), []);
  await check();
});

test("the run-time role gets exactly the rights of a service", async (t) => {
  const { options, runtimeUrl, owner, runtimeRole } = await setUp(t, SHOP);
  await migrate(options);
  await owner.unsafe(`grant truncate on item to "${runtimeRole}"`);
  await migrate(options);
  const rights = await owner`
    select table_name as name, string_agg(privilege_type, ' ' order by privilege_type) as rights
    from information_schema.role_table_grants where grantee = ${runtimeRole} group by 1 order by 1`;
  const all = "DELETE INSERT SELECT UPDATE";
  assert.deepEqual(
    rights.map((row) => [row.name, row.rights]),
    [
      ["concierge_migration", "SELECT"],
      ["feed_cursor", all],
      ["feed_outbox", all],
      ["feed_parked", all],
      ["feed_state", all],
      ["feed_subject", all],
      ["item", all],
      ["spent_token", all],
    ],
  );
  const runtime = connect(runtimeUrl, { applicationName: "test" });
  t.after(() => runtime.end());
  assert.equal((await runtime`insert into item (name) values ('a') returning id`)[0]?.id, "1");
  assert.ok((await runtime`select concierge_now() as now`)[0]?.now instanceof Date);
});

test("S-LOG-07 the run-time role adds to and reads a table that is marked append-only, and nothing else", async (t) => {
  const marked = "CREATE TABLE diary (line text);\n--> statement-breakpoint\nCOMMENT ON TABLE diary IS 'append-only';";
  const { options, owner, runtimeRole } = await setUp(t, { "0000_diary.sql": marked });
  await migrate(options);
  const rights = await owner`
    select privilege_type as right from information_schema.role_table_grants
    where grantee = ${runtimeRole} and table_name = 'diary' order by 1`;
  assert.deepEqual(
    rights.map((row) => row.right),
    ["INSERT", "SELECT"],
  );
});

test("three runners at once apply each migration once", async (t) => {
  const { options, check } = await setUp(t, SHOP);
  const applied = await Promise.all([migrate(options), migrate(options), migrate(options)]);
  assert.deepEqual(applied.map((files) => files.length).sort(), [0, 0, 5]);
  await check();
});

test("up, down and up again make the same schema", async (t) => {
  const { options, owner, check } = await setUp(t, SHOP);
  await migrate(options);
  const before = await describeSchema(owner);
  assert.equal(await migrateDown({ ...options, series: "shop" }), "shop/0001_price.down.sql");
  assert.ok(!(await describeSchema(owner)).some((line) => line.includes("price")));
  await assert.rejects(check(), stops("shop/0001_price.sql: not applied", "concierge migrate"));
  await migrate(options);
  assert.deepEqual(await describeSchema(owner), before);
});

test("the platform's own down script undoes its newest migration", async (t) => {
  const { options, owner } = await setUp(t);
  await migrate(options);
  const before = await describeSchema(owner);
  assert.equal(await migrateDown({ ...options, series: "platform" }), "platform/0002_feed_floor.down.sql");
  assert.notDeepEqual(await describeSchema(owner), before);
  await migrate(options);
  assert.deepEqual(await describeSchema(owner), before);
});

test("a migration without a down script is not undone, and a failing one is undone whole or not at all", async (t) => {
  const { options, write, owner } = await setUp(t, {
    ...SHOP,
    "0001_price.down.sql": "DROP TABLE item; SELECT 1 / 0;",
  });
  await migrate(options);
  const before = await describeSchema(owner);
  await assert.rejects(migrateDown({ ...options, series: "shop" }), /0001_price.down.sql: statement 1 failed/);
  assert.deepEqual(await describeSchema(owner), before);
  await write("0002_last.sql", "SELECT 1;");
  await migrate(options);
  await assert.rejects(migrateDown({ ...options, series: "shop" }), /shop\/0002_last.down.sql: there is no such/);
});

test("a failing migration leaves nothing of itself and names its file", async (t) => {
  const { options, write, owner, check } = await setUp(t, { ...SHOP });
  await write("0002_bad.sql", "CREATE TABLE half (id int);\n--> statement-breakpoint\nSELECT broken;");
  await assert.rejects(migrate(options), /shop\/0002_bad.sql: statement 2 failed/);
  const [found] = await owner`select to_regclass('half') as half, to_regclass('item') as item`;
  assert.deepEqual({ ...found }, { half: null, item: "item" });
  await write("0002_bad.sql", "CREATE TABLE half (id int);");
  await migrate(options);
  await check();
});

test("S-INJ-07 an edited migration stops the start and the runner", async (t) => {
  const { options, write, check } = await setUp(t, SHOP);
  await migrate(options);
  await write("0001_price.sql", "ALTER TABLE item ADD COLUMN price bigint;");
  await assert.rejects(check(), stops("shop/0001_price.sql: edited"));
  await assert.rejects(migrate(options), stops("shop/0001_price.sql: edited"));
  await write("0001_price.sql", `${SHOP["0001_price.sql"]}`.replaceAll("\n", "\r\n"));
  await check();
});

test("S-INJ-07 a missing file, or a database from a newer release, stops the start", async (t) => {
  const { options, folder, check } = await setUp(t, SHOP);
  await migrate(options);
  await rm(join(folder, "shop", "0001_price.sql"));
  await assert.rejects(check(), stops("shop/0001_price.sql: applied to the database, but there is no such file"));
  await assert.rejects(migrate(options), stops("shop/0001_price.sql"));
});

test("S-INJ-07 reordered migrations stop the start", async (t) => {
  const { options, folder, write, check } = await setUp(t, SHOP);
  await migrate(options);
  await rename(join(folder, "shop", "0000_item.sql"), join(folder, "shop", "0002_item.sql"));
  await assert.rejects(check(), stops("shop/0000_item.sql", "shop/0002_item.sql: not applied"));
  await rename(join(folder, "shop", "0002_item.sql"), join(folder, "shop", "0000_item.sql"));
  await rename(join(folder, "shop", "0001_price.sql"), join(folder, "shop", "0003_price.sql"));
  await write("0001_before.sql", "SELECT 1;");
  await assert.rejects(check(), stops("shop/0001_price.sql: applied", "shop/0003_price.sql: not applied"));
});

test("S-INJ-07 a migration slipped in before an applied one stops the start", async (t) => {
  const { options, write, check } = await setUp(t, { "0001_late.sql": "SELECT 1;" });
  await migrate(options);
  await write("0000_early.sql", "SELECT 1;");
  await assert.rejects(check(), stops("shop/0000_early.sql: not applied, but the later shop/0001_late.sql is"));
  await assert.rejects(migrate(options), stops("shop/0000_early.sql"));
  await write("0001_twin.sql", "SELECT 1;");
  await assert.rejects(check(), stops("shop/0001_twin.sql: its number is used before it"));
});

test("S-INJ-07 nothing applied at all stops the start", async (t) => {
  const { check } = await setUp(t, SHOP);
  await assert.rejects(check(), stops("platform/0000_platform.sql: not applied", "shop/0000_item.sql: not applied"));
});

test("a database that is down is to be waited for, a refused login is not", async (t) => {
  const { runtimeUrl, check, options } = await setUp(t, SHOP);
  await migrate(options);
  const port = await closedPort();
  const down = new URL(runtimeUrl);
  down.port = String(port);
  const schema = { series: options.series, folder: options.folder };
  await assert.rejects(checkSchema({ ...schema, runtimeUrl: down.href }), DatabaseUnavailable);
  await assert.rejects(migrate({ ...options, ownerUrl: down.href }), DatabaseUnavailable);
  const wrong = new URL(runtimeUrl);
  wrong.password = "canary-of-a-password";
  await assert.rejects(checkSchema({ ...schema, runtimeUrl: wrong.href }), (error: Error) => {
    assert.ok(!error.message.includes("canary"));
    return stops("refuses the login")(error);
  });
  await check();
});

test("R-DEP-03 an abort between two statements leaves no half migration, and ends the wait for the lock", async (t) => {
  const { options, owner, check } = await setUp(t, { "0000_a.sql": gatedMigration("a", 2) });
  const abort = new AbortController();
  await closeGate(owner, "a", 0);
  const running = assert.rejects(migrate({ ...options, signal: abort.signal }), { name: "AbortError" });
  await waitForGate(owner);
  const waiting = assert.rejects(migrate({ ...options, signal: abort.signal }), { name: "AbortError" });
  abort.abort();
  await waiting;
  await openGates(owner);
  await running;
  const [found] = await owner`select to_regclass('a0') as first`;
  assert.equal(found?.first, null);
  await migrate(options);
  await check();
});

test("R-DEP-07 SIGKILL at each statement of each migration: nothing is half applied, the next run completes", async (t) => {
  const shop = { "0000_a.sql": gatedMigration("a", 3), "0001_b.sql": gatedMigration("b", 2) };
  const { options, owner, check } = await setUp(t, shop);
  const points = [
    ["a", 0],
    ["a", 1],
    ["a", 2],
    ["b", 0],
    ["b", 1],
  ] as const;
  for (const [table, index] of points) {
    await closeGate(owner, table, index);
    const runner = spawnRunner(options);
    await waitForGate(owner);
    runner.kill("SIGKILL");
    await once(runner, "exit");
    // the gate is still closed: the server itself notices that nobody waits for the answer
    await until("the server has let the runner go", async () => (await runnersOf(owner)) === 0);
    const [found] = await owner`select to_regclass(${`${table}0`}) as first`;
    assert.equal(found?.first, null);
    await openGates(owner);
  }
  assert.deepEqual(await migrate(options), ["shop/0001_b.sql"]);
  await check();
});

/** Each statement makes a table and is followed by a gate that a test can close. */
function gatedMigration(table: "a" | "b", statements: number): string {
  return Array.from({ length: statements }, (_, index) => [
    `CREATE TABLE ${table}${index} (id int)`,
    `SELECT pg_advisory_xact_lock(${gateOf(table, index)})`,
  ])
    .flat()
    .join("\n--> statement-breakpoint\n");
}

function gateOf(table: "a" | "b", index: number): number {
  return (table === "a" ? 7000 : 7100) + index;
}

async function closeGate(owner: Sql, table: "a" | "b", index: number): Promise<void> {
  await owner`select pg_advisory_lock(${gateOf(table, index)})`;
}

async function openGates(owner: Sql): Promise<void> {
  await owner`select pg_advisory_unlock_all()`;
}

async function waitForGate(owner: Sql): Promise<void> {
  await until("the runner waits at a gate", async () => {
    const waiting = await owner`select 1 from pg_locks where locktype = 'advisory' and not granted`;
    return waiting.length > 0;
  });
}

async function runnersOf(owner: Sql): Promise<number> {
  const rows = await owner`
    select 1 from pg_stat_activity where datname = current_database() and application_name = 'concierge-migrate'`;
  return rows.length;
}

function spawnRunner(options: Parameters<typeof migrate>[0]) {
  const script = `import { migrate } from ${JSON.stringify(MIGRATE)}; await migrate(${JSON.stringify(options)});`;
  return spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: "ignore" });
}

/** A port nothing listens on. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
