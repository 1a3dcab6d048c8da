/** Migrations are applied once, whole or not at all, with the rights of a service, and can be undone. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import test from "node:test";
import { describeSchema } from "../testing/schema.ts";
import { connect } from "./connection.ts";
import { DatabaseUnavailable } from "./errors.ts";
import { checkSchema, migrate, migrateDown, planMigrations } from "./migrate.ts";
import { applied, openShop, SHOP, stops } from "./migrate-testing.ts";

test("migrations are applied once, in order, and the check is content", async (t) => {
  const { options, check } = await openShop(t, SHOP);
  const platform = [
    "platform/0000_platform.sql",
    "platform/0001_feed.sql",
    "platform/0002_feed_floor.sql",
    "platform/0003_feed_lease.sql",
    "platform/0004_stamp_one_by_one.sql",
  ];
  assert.deepEqual(await applied(options), [...platform, "shop/0000_item.sql", "shop/0001_price.sql"]);
  assert.deepEqual(await applied(options), []);
  await check();
});

test("the run-time role gets exactly the rights of a service", async (t) => {
  const { options, runtimeUrl, owner, runtimeRole } = await openShop(t, SHOP);
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
      ["feed_lease", all],
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
  const { options, owner, runtimeRole } = await openShop(t, { "0000_diary.sql": marked });
  await migrate(options);
  const rights = await owner`
    select privilege_type as right from information_schema.role_table_grants
    where grantee = ${runtimeRole} and table_name = 'diary' order by 1`;
  assert.deepEqual(
    rights.map((row) => row.right),
    ["INSERT", "SELECT"],
  );
});

test("up, down and up again make the same schema", async (t) => {
  const { options, owner, check } = await openShop(t, SHOP);
  await migrate(options);
  const before = await describeSchema(owner);
  assert.equal(await migrateDown({ ...options, series: "shop" }), "shop/0001_price.down.sql");
  assert.ok(!(await describeSchema(owner)).some((line) => line.includes("price")));
  await assert.rejects(check(), stops("shop/0001_price.sql: not applied", "concierge migrate"));
  await migrate(options);
  assert.deepEqual(await describeSchema(owner), before);
});

test("the platform's own down script undoes its newest migration", async (t) => {
  const { options, owner } = await openShop(t);
  await migrate(options);
  const before = await describeSchema(owner);
  assert.equal(await migrateDown({ ...options, series: "platform" }), "platform/0004_stamp_one_by_one.down.sql");
  assert.notDeepEqual(await describeSchema(owner), before);
  await migrate(options);
  assert.deepEqual(await describeSchema(owner), before);
});

test("a migration without a down script is not undone, and a failing one is undone whole or not at all", async (t) => {
  const { options, write, owner } = await openShop(t, {
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
  const { options, write, owner, check } = await openShop(t, { ...SHOP });
  await write("0002_bad.sql", "CREATE TABLE half (id int);\n--> statement-breakpoint\nSELECT broken;");
  await assert.rejects(migrate(options), /shop\/0002_bad.sql: statement 2 failed/);
  const [found] = await owner`select to_regclass('half') as half, to_regclass('item') as item`;
  assert.deepEqual({ ...found }, { half: null, item: "item" });
  await write("0002_bad.sql", "CREATE TABLE half (id int);");
  await migrate(options);
  await check();
});

test("a plan says what would be applied, and changes nothing", async (t) => {
  const { options, owner, write } = await openShop(t, SHOP);
  const names = async () => (await planMigrations(options)).pending.map(({ file }) => file);
  assert.deepEqual((await names()).slice(-2), ["shop/0000_item.sql", "shop/0001_price.sql"]);
  assert.equal((await owner`select to_regclass('concierge_migration') as made`)[0]?.made, null);
  await migrate(options);
  assert.deepEqual(await names(), []);
  await write("0001_price.sql", "SELECT 1;");
  await assert.rejects(names(), stops("shop/0001_price.sql: edited"));
});

test("a database that is down is to be waited for, a refused login is not", async (t) => {
  const { runtimeUrl, check, options } = await openShop(t, SHOP);
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

/** A port nothing listens on. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
