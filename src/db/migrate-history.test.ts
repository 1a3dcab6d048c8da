/** What a database's history may be beside the files of a release: the same, older, or newer by expansions only. */
import assert from "node:assert/strict";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { describeSchema } from "../testing/schema.ts";
import { migrate } from "./migrate.ts";
import { applied, openShop, SHOP, stops } from "./migrate-testing.ts";

test("S-INJ-07 an edited migration stops the start and the runner", async (t) => {
  const { options, write, check } = await openShop(t, SHOP);
  await migrate(options);
  await write("0001_price.sql", "ALTER TABLE item ADD COLUMN price bigint;");
  await assert.rejects(check(), stops("shop/0001_price.sql: edited"));
  await assert.rejects(migrate(options), stops("shop/0001_price.sql: edited"));
  await write("0001_price.sql", `${SHOP["0001_price.sql"]}`.replaceAll("\n", "\r\n"));
  await check();
});

test("S-INJ-07 a missing file, or a database from a newer release, stops the start", async (t) => {
  const { options, folder, check } = await openShop(t, SHOP);
  await migrate(options);
  await rm(join(folder, "shop", "0001_price.sql"));
  await assert.rejects(check(), stops("shop/0001_price.sql: applied to the database, but there is no such file"));
  await assert.rejects(migrate(options), stops("shop/0001_price.sql"));
});

test("R-DEP-08 S-INJ-07 a release works on what expansions of a newer one have made, and its migrate changes nothing", async (t) => {
  const { options, folder, write, owner, check } = await openShop(t, SHOP);
  await write("0002_note.sql", "-- expand\nALTER TABLE item ADD COLUMN note text;");
  await write("0003_tag.sql", "-- expand: nobody reads it yet\nALTER TABLE item ADD COLUMN tag text;");
  assert.deepEqual((await migrate(options)).ahead, []);
  assert.deepEqual(await check(), []);
  const schema = await describeSchema(owner);
  await rm(join(folder, "shop", "0002_note.sql"));
  await rm(join(folder, "shop", "0003_tag.sql"));
  const newer = ["shop/0002_note.sql", "shop/0003_tag.sql"];
  assert.deepEqual(await check(), newer);
  const { pending, ahead } = await migrate(options);
  assert.deepEqual({ pending, ahead }, { pending: [], ahead: newer });
  assert.deepEqual(await describeSchema(owner), schema);
});

test("S-INJ-07 of a newer history one migration that is no expansion, or an older unknown one, stops the start", async (t) => {
  const { options, folder, write, check } = await openShop(t, SHOP);
  await write("0002_note.sql", "-- expand\nALTER TABLE item ADD COLUMN note text;");
  await write("0003_tag.sql", "-- expands\nALTER TABLE item ADD COLUMN tag text;");
  await migrate(options);
  await rm(join(folder, "shop", "0003_tag.sql"));
  await assert.rejects(check(), stops("shop/0003_tag.sql: applied to the database, but there is no such file"));
  await rm(join(folder, "shop", "0002_note.sql"));
  await assert.rejects(check(), stops("shop/0003_tag.sql: applied"));
  await assert.rejects(migrate(options), stops("shop/0003_tag.sql: applied"));
  await write("0003_tag.sql", "-- expands\nALTER TABLE item ADD COLUMN tag text;");
  // an expansion in the middle is not a newer release
  await assert.rejects(check(), stops("shop/0002_note.sql: applied to the database, but there is no such file"));
  await write("0002_note.sql", "-- expand\nALTER TABLE item ADD COLUMN remark text;");
  await assert.rejects(check(), stops("shop/0002_note.sql: edited"));
});

test("S-INJ-07 a release does not work on expansions that came before something of its own was applied", async (t) => {
  const { options, folder, write, check } = await openShop(t, { "0001_late.sql": "-- expand\nSELECT 1;" });
  await migrate(options);
  await rm(join(folder, "shop", "0001_late.sql"));
  await write("0000_early.sql", "SELECT 1;");
  await assert.rejects(check(), stops("shop/0000_early.sql: not applied, but the later shop/0001_late.sql is"));
});

test("a database of before there were expansions is served as it is, and migrated", async (t) => {
  const { options, owner, check } = await openShop(t, SHOP);
  await migrate(options);
  const schema = await describeSchema(owner);
  await owner`alter table concierge_migration drop column is_expansion`;
  assert.deepEqual(await check(), []);
  assert.deepEqual(await applied(options), []);
  assert.deepEqual(await describeSchema(owner), schema);
});

test("S-INJ-07 reordered migrations stop the start", async (t) => {
  const { options, folder, write, check } = await openShop(t, SHOP);
  await migrate(options);
  await rename(join(folder, "shop", "0000_item.sql"), join(folder, "shop", "0002_item.sql"));
  await assert.rejects(check(), stops("shop/0000_item.sql", "shop/0002_item.sql: not applied"));
  await rename(join(folder, "shop", "0002_item.sql"), join(folder, "shop", "0000_item.sql"));
  await rename(join(folder, "shop", "0001_price.sql"), join(folder, "shop", "0003_price.sql"));
  await write("0001_before.sql", "SELECT 1;");
  await assert.rejects(check(), stops("shop/0001_price.sql: applied", "shop/0003_price.sql: not applied"));
});

test("S-INJ-07 a migration slipped in before an applied one stops the start", async (t) => {
  const { options, write, check } = await openShop(t, { "0001_late.sql": "SELECT 1;" });
  await migrate(options);
  await write("0000_early.sql", "SELECT 1;");
  await assert.rejects(check(), stops("shop/0000_early.sql: not applied, but the later shop/0001_late.sql is"));
  await assert.rejects(migrate(options), stops("shop/0000_early.sql"));
  await write("0001_twin.sql", "SELECT 1;");
  await assert.rejects(check(), stops("shop/0001_twin.sql: its number is used before it"));
});

test("S-INJ-07 nothing applied at all stops the start", async (t) => {
  const { check } = await openShop(t, SHOP);
  await assert.rejects(check(), stops("platform/0000_platform.sql: not applied", "shop/0000_item.sql: not applied"));
});
