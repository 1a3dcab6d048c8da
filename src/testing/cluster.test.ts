import assert from "node:assert/strict";
import test from "node:test";
import { connect } from "../db/connection.ts";
import { setDatabaseOffset, testDatabase } from "./cluster.ts";

test("databases are fresh, equal and apart", async () => {
  await using one = await testDatabase();
  await using other = await testDatabase();
  const [a, b] = [one, other].map(({ runtimeUrl }) => connect(runtimeUrl, { applicationName: "cluster-test" }));
  await a!`insert into feed_subject values ('only here', 1)`;
  assert.equal((await b!`select * from feed_subject`).length, 0);
  await Promise.all([a!.end(), b!.end()]);
});

test("many ask for the same template at once", async () => {
  const databases = await Promise.all(Array.from({ length: 8 }, () => testDatabase()));
  assert.equal(new Set(databases.map(({ name }) => name)).size, 8);
  await Promise.all(databases.map((database) => database[Symbol.asyncDispose]()));
});

test("a connection left open fails the test, and the database is gone all the same", async () => {
  const database = await testDatabase();
  const left = connect(database.runtimeUrl, { applicationName: "left-open" });
  await left`select 1`;
  await assert.rejects(async () => database[Symbol.asyncDispose](), /left connections.*left-open/);
  await assert.rejects(async () => left`select 1`);
  await left.end({ timeout: 0 });
});

test("the offset moves the hour of one database", async () => {
  await using database = await testDatabase();
  await using other = await testDatabase();
  const aheadOf = async (url: string) => {
    const sql = connect(url, { applicationName: "cluster-test" });
    const [row] = await sql`select round(extract(epoch from concierge_now() - clock_timestamp()))::int as seconds`;
    await sql.end();
    return row?.seconds;
  };
  await setDatabaseOffset(database.ownerUrl, -3_600_000);
  assert.equal(await aheadOf(database.runtimeUrl), -3_600);
  await setDatabaseOffset(database.ownerUrl, 90_000);
  assert.equal(await aheadOf(database.runtimeUrl), 90);
  assert.equal(await aheadOf(other.runtimeUrl), 0);
});
