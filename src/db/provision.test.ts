import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { testCluster } from "../testing/cluster.ts";
import { connect, withDatabase } from "./connection.ts";
import { sqlStateOf } from "./errors.ts";
import { migrate } from "./migrate.ts";
import { asAdmin, cloneDatabase, dropDatabase, provisionDatabase } from "./provision.ts";

const DRIZZLE = new URL("../../drizzle", import.meta.url).pathname;

/** A plan with names of its own, removed at the end of the test. */
async function planFor(t: TestContext, name = "user") {
  const { adminUrl } = await testCluster();
  const database = `${name} "${crypto.randomUUID().slice(0, 8)}"`;
  const plan = {
    database,
    ownerRole: `${database} owner`,
    runtimeRole: `${database} runtime`,
    ownerPassword: `p@ss/ü%"'${crypto.randomUUID()}`,
    runtimePassword: crypto.randomUUID(),
    job: { role: `${database} job`, password: crypto.randomUUID() },
  };
  t.after(async () => {
    await dropDatabase(adminUrl, database, [plan.ownerRole, plan.runtimeRole, plan.job.role]);
  });
  return { adminUrl, plan };
}

/** Runs statements as somebody; returns the SQLSTATE of the failure, or "ok". */
async function attempt(url: string, ...statements: string[]): Promise<string> {
  const sql = connect(url, { applicationName: "test" });
  try {
    for (const statement of statements) await sql.unsafe(statement);
    return "ok";
  } catch (error) {
    return sqlStateOf(error) ?? String(error);
  } finally {
    await sql.end();
  }
}

test("provisioning can be repeated, changes passwords, and takes back what a role should not have", async (t) => {
  const { adminUrl, plan } = await planFor(t);
  const first = await provisionDatabase(adminUrl, plan);
  assert.equal(await attempt(first.ownerUrl, "create table kept (id int)"), "ok");
  const runtime = `"${plan.runtimeRole.replaceAll('"', '""')}"`;
  await asAdmin(adminUrl, (sql) =>
    sql.unsafe(`alter role ${runtime} superuser createdb createrole bypassrls replication`),
  );
  const second = await provisionDatabase(adminUrl, { ...plan, runtimePassword: "another-password" });
  assert.equal(await attempt(second.ownerUrl, "select * from kept"), "ok");
  assert.equal(await attempt(second.runtimeUrl, "select 1"), "ok");
  assert.equal(await attempt(first.runtimeUrl, "select 1"), "28P01");
  const [role] = await asAdmin(
    adminUrl,
    (sql) => sql`
    select rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or rolreplication as powerful from pg_roles
    where rolname = ${plan.runtimeRole}`,
  );
  assert.equal(role?.powerful, false);
});

test("three provisioners at once end with one database", async (t) => {
  const { adminUrl, plan } = await planFor(t);
  const all = await Promise.all([1, 2, 3].map(() => provisionDatabase(adminUrl, plan)));
  for (const urls of all) assert.equal(await attempt(urls.runtimeUrl, "select 1"), "ok");
});

test("an administrator who is no superuser can provision, twice", async (t) => {
  const { adminUrl, plan } = await planFor(t);
  const admin = `admin_${crypto.randomUUID().slice(0, 8)}`;
  await asAdmin(adminUrl, (sql) =>
    sql.unsafe(`create role ${admin} login createdb createrole password 'for-the-test'`),
  );
  const limitedUrl = withDatabase(adminUrl, "postgres", { role: admin, password: "for-the-test" });
  await provisionDatabase(limitedUrl, plan);
  const urls = await provisionDatabase(limitedUrl, plan);
  assert.equal(await attempt(urls.ownerUrl, "create table mine (id int)"), "ok");
  assert.equal(await attempt(urls.runtimeUrl, "create table mine2 (id int)"), "42501");
  await dropDatabase(adminUrl, plan.database, [plan.ownerRole, plan.runtimeRole, plan.job.role, admin]);
});

test("S-INJ-06 a role that serves owns nothing, runs no DDL, and enters no other service's database", async (t) => {
  const [one, other] = [await planFor(t, "auth"), await planFor(t, "user")];
  const urls = await provisionDatabase(one.adminUrl, one.plan);
  await provisionDatabase(one.adminUrl, other.plan);
  const roles = { runtimeRole: one.plan.runtimeRole, jobRole: one.plan.job.role };
  await migrate({ ownerUrl: urls.ownerUrl, ...roles, series: ["platform"], folder: DRIZZLE });
  for (const statement of [
    "create table x (id int)",
    "create schema x",
    "create temporary table x (id int)",
    "create function x() returns int language sql as 'select 1'",
    "create extension pg_trgm",
    "create role x",
    "create database x",
    "alter table feed_outbox add column x int",
    "alter table feed_outbox disable trigger all",
    "create index x on feed_outbox (type)",
    "drop table feed_outbox",
    "truncate feed_outbox",
    "drop index feed_outbox_position",
    "create or replace function concierge_now() returns timestamptz language sql as 'select now()'",
    "insert into concierge_migration (series, name, checksum) values ('a', 'b', 'c')",
    "delete from concierge_migration",
    `set role "${one.plan.ownerRole.replaceAll('"', '""')}"`,
    "copy feed_outbox to program 'id'",
    "select pg_read_file('/etc/passwd')",
  ]) {
    for (const url of [urls.runtimeUrl, urls.jobUrl!]) {
      assert.match(await attempt(url, statement), /^(42501|42P06)$/, statement);
    }
  }
  for (const [url, login] of [
    [urls.runtimeUrl, { role: one.plan.runtimeRole, password: one.plan.runtimePassword }],
    [urls.jobUrl!, one.plan.job],
    [urls.ownerUrl, { role: one.plan.ownerRole, password: one.plan.ownerPassword }],
  ] as const) {
    assert.equal(await attempt(url, "select 1"), "ok");
    assert.equal(await attempt(withDatabase(url, other.plan.database, login), "select 1"), "42501");
  }
  const owned = await asAdmin(
    withDatabase(one.adminUrl, one.plan.database),
    (sql) => sql`
    select 1 from pg_shdepend d join pg_roles r on r.oid = d.refobjid
    where d.deptype = 'o' and r.rolname in (${one.plan.runtimeRole}, ${one.plan.job.role})`,
  );
  assert.equal(owned.length, 0);
});

test("a password never stands in a statement the server sees", async (t) => {
  const { adminUrl, plan } = await planFor(t);
  const seen = await asAdmin(adminUrl, async (sql) => {
    await provisionDatabase(adminUrl, plan);
    return sql`select rolpassword from pg_authid where rolname = ${plan.runtimeRole}`;
  });
  assert.match(String(seen[0]?.rolpassword), /^SCRAM-SHA-256\$4096:/);
});

test("a copy of a database lets in the same roles and nobody else", async (t) => {
  const { adminUrl, plan } = await planFor(t);
  const outsider = await planFor(t);
  const copy = `copy ${crypto.randomUUID()}`;
  const urls = await provisionDatabase(adminUrl, plan);
  await provisionDatabase(adminUrl, outsider.plan);
  await cloneDatabase(adminUrl, plan.database, copy);
  assert.equal(await attempt(withDatabase(urls.runtimeUrl, copy), "select 1"), "ok");
  assert.equal(await attempt(withDatabase(urls.ownerUrl, copy), "create table x (id int)"), "ok");
  const login = { role: outsider.plan.runtimeRole, password: outsider.plan.runtimePassword };
  assert.equal(await attempt(withDatabase(adminUrl, copy, login), "select 1"), "42501");
  await dropDatabase(adminUrl, copy);
  await assert.rejects(cloneDatabase(adminUrl, "no such database", "x"), /there is no database/);
});

test("a name PostgreSQL would cut is refused", async (t) => {
  const { adminUrl, plan } = await planFor(t);
  await assert.rejects(provisionDatabase(adminUrl, { ...plan, runtimeRole: "x".repeat(64) }), /1 to 63 bytes/);
});
