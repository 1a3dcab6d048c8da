import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { sql } from "drizzle-orm";
import { getTableConfig, PgDialect, pgTable, text, uuid } from "drizzle-orm/pg-core";
import { Code, reasonOf } from "../errors.ts";
import { testCluster, testDatabase } from "../testing/cluster.ts";
import { addresseePolicy, personPolicy, tenantPolicy } from "./columns.ts";
import { connect } from "./connection.ts";
import { type Db, openDatabase, type Tx, transaction } from "./database.ts";
import { sqlStateOf } from "./errors.ts";
import { migrate } from "./migrate.ts";
import { MIGRATIONS_FOLDER } from "./migrations.ts";
import { asAdmin } from "./provision.ts";
import {
  forOrganization,
  forPerson,
  ofOrganization,
  usedPredicates,
  withinScope,
  withoutPredicate,
} from "./tenants.ts";

const shelves = pgTable(
  "shelves",
  { organizationId: uuid("organization_id").notNull(), label: text("label").notNull() },
  (table) => [tenantPolicy(table.organizationId)],
);
const readers = pgTable(
  "readers",
  {
    organizationId: uuid("organization_id").notNull(),
    userId: uuid("user_id"),
    emailKey: text("email_key"),
    label: text("label").notNull(),
  },
  (table) => [tenantPolicy(table.organizationId), personPolicy(table.userId), addresseePolicy(table.emailKey)],
);

const [orange, purple, ann, bob] = Array.from({ length: 4 }, () => crypto.randomUUID()) as [
  string,
  string,
  string,
  string,
];
const refused = "42501";

/** A shelf of each organization, and readers: Ann of both, Bob of one; and one connection that everybody uses. */
async function setUp(t: TestContext) {
  const database = await testDatabase();
  const { ownerUrl, runtimeUrl, jobUrl } = database;
  const owner = connect(ownerUrl, { applicationName: "owner" });
  await owner`create table shelves (organization_id uuid not null, label text not null)`;
  await owner`create table readers (organization_id uuid not null, user_id uuid, email_key text, label text not null)`;
  for (const table of [shelves, readers].map(getTableConfig)) {
    await owner.unsafe(`alter table ${table.name} enable row level security`);
    for (const { name, for: command = "all", using } of table.policies) {
      const condition = new PgDialect().sqlToQuery(using!).sql;
      await owner.unsafe(`create policy ${name} on ${table.name} for ${command} using (${condition})`);
    }
  }
  const role = (url: string) => new URL(url).username;
  const roles = { runtimeRole: role(runtimeUrl), jobRole: role(jobUrl) };
  await migrate({ ownerUrl, ...roles, series: ["platform"], folder: MIGRATIONS_FOLDER });
  const open = (url: string) => openDatabase({ url, poolSize: 1, applicationName: "tenants-test" });
  const [runtime, jobs] = [open(runtimeUrl), open(jobUrl)];
  t.after(async () => {
    await Promise.all([owner.end(), runtime[Symbol.asyncDispose](), jobs[Symbol.asyncDispose]()]);
    await database[Symbol.asyncDispose]();
  });
  await jobs.db.insert(shelves).values([shelf(orange, "orange"), shelf(purple, "purple")]);
  await jobs.db.insert(readers).values([
    { organizationId: orange, userId: ann, label: "Ann of orange" },
    { organizationId: purple, userId: ann, label: "Ann of purple" },
    { organizationId: purple, userId: bob, label: "Bob of purple" },
    { organizationId: orange, emailKey: `o'bob\\@example.com`, label: "Bob invited to orange" },
  ]);
  return { db: runtime.db, jobDb: jobs.db, owner, name: database.name, ...roles };
}

const shelf = (organizationId: string, label: string) => ({ organizationId, label });

async function labels(db: Db | Tx, table: typeof shelves | typeof readers = shelves): Promise<string[]> {
  return (await db.select({ label: table.label }).from(table).orderBy(table.label)).map(({ label }) => label);
}

/** The SQLSTATE of what was refused. */
async function stateOf(work: Promise<unknown>): Promise<string | undefined> {
  return work.then(
    () => "done",
    (error: unknown) => sqlStateOf(error),
  );
}

test("S-TEN-20 a connection that another organization used shows no foreign row, nor an error 22P02 with the setting empty", async (t) => {
  const { db } = await setUp(t);
  const setting = async () =>
    (await db.execute(sql`select current_setting('concierge.organization', true) as value`))[0]?.value;
  assert.equal(await setting(), null);
  assert.deepEqual(await labels(db), []);
  assert.deepEqual(await forOrganization(db, orange, labels), ["orange"]);
  assert.deepEqual(await forOrganization(db, purple, labels), ["purple"]);
  assert.equal(await setting(), "", "the trap is there: the setting is not null any more");
  assert.deepEqual(await labels(db), []);
  assert.deepEqual(await transaction(db, (tx) => labels(tx)), []);
  assert.equal(await stateOf(db.insert(shelves).values(shelf(orange, "nobody's"))), refused);
});

test("S-TEN-20 nothing of a transaction is left for the next, however it ended", async (t) => {
  const { db } = await setUp(t);
  const failing = async (tx: Tx) => {
    assert.deepEqual(await labels(tx), ["orange"]);
    throw new Error("the test's own");
  };
  await assert.rejects(forOrganization(db, orange, failing), /the test's own/);
  assert.deepEqual(await labels(db), []);
  const invalid = forOrganization(db, orange, (tx) => tx.execute(sql`select 1 / 0`));
  assert.equal(await stateOf(invalid), "22012");
  assert.deepEqual(await forPerson(db, { userId: bob }, labels), []);
});

test("a transaction that is run again is still its organization's", async (t) => {
  const { db } = await setUp(t);
  let runs = 0;
  const work = async (tx: Tx) => {
    assert.deepEqual(await labels(tx), ["orange"]);
    if (++runs < 3) await tx.execute(sql`do $$ begin raise exception using errcode = '40001'; end $$`);
  };
  await forOrganization(db, orange, work, { random: () => 0 });
  assert.equal(runs, 3);
});

test("whose rows it is goes to the server together with BEGIN", async (t) => {
  const { db, name } = await setUp(t);
  const { adminUrl } = await testCluster();
  const lastStatement = () =>
    asAdmin(adminUrl, async (admin) => {
      const [found] = await admin`select query from pg_stat_activity
        where datname = ${name} and application_name = 'tenants-test' and state = 'idle in transaction'`;
      return found?.query;
    });
  assert.equal(
    await withinScope(db, { organizationId: orange, userId: ann }, lastStatement),
    `begin; set local concierge.organization = E'${orange}'; set local concierge.person = E'${ann}'`,
  );
});

test("S-TEN-17 without its predicate a query sees and changes no foreign row; without policies, too, it would", async (t) => {
  const { db, owner } = await setUp(t);
  const own = () => ofOrganization("shelves.list", shelves.organizationId, orange);
  const listed = () =>
    forOrganization(db, orange, async (tx) => (await tx.select().from(shelves).where(own())).map(({ label }) => label));
  const renamed = () =>
    forOrganization(db, orange, (tx) => tx.update(shelves).set({ label: sql`label || '!'` }).where(own()).returning());
  assert.deepEqual(await listed(), ["orange"]);
  assert.ok(usedPredicates().includes("shelves.list"));
  {
    using _left = withoutPredicate("shelves.list");
    assert.throws(() => withoutPredicate("shelves.list"), /already/);
    assert.deepEqual(await listed(), ["orange"]);
    assert.equal((await renamed()).length, 1);
    await owner`alter table shelves disable row level security`;
    assert.deepEqual((await listed()).sort(), ["orange!", "purple"]);
    assert.equal((await renamed()).length, 2);
  }
  assert.deepEqual(await listed(), ["orange!!"]);
});

test("S-TEN-17 no row is made for another organization, or given to it", async (t) => {
  const { db, jobDb } = await setUp(t);
  const given = forOrganization(db, orange, (tx) => tx.update(shelves).set({ organizationId: purple }));
  assert.equal(await stateOf(given), refused);
  const made = forOrganization(db, orange, (tx) => tx.insert(shelves).values(shelf(purple, "planted")));
  assert.equal(await stateOf(made), refused);
  assert.deepEqual(await forOrganization(db, orange, (tx) => tx.delete(shelves).returning()), [
    shelf(orange, "orange"),
  ]);
  assert.deepEqual(await labels(jobDb), ["purple"]);
});

test("people read their own rows in any organization, and change them in one only", async (t) => {
  const { db } = await setUp(t);
  const read = (tx: Tx) => labels(tx, readers);
  const write = (tx: Tx) => tx.update(readers).set({ label: sql`label` }).returning({ label: readers.label });
  const bobs = { userId: bob, emailKey: "o'bob\\@example.com" };
  assert.deepEqual(await forPerson(db, { userId: ann }, read), ["Ann of orange", "Ann of purple"]);
  assert.deepEqual(await forPerson(db, bobs, read), ["Bob invited to orange", "Bob of purple"]);
  assert.deepEqual(await forPerson(db, bobs, write), []);
  assert.deepEqual(await forPerson(db, bobs, labels), []);
  const both = { ...bobs, organizationId: orange };
  assert.deepEqual(await withinScope(db, both, read), ["Ann of orange", "Bob invited to orange", "Bob of purple"]);
  assert.deepEqual((await withinScope(db, both, write)).map(({ label }) => label).sort(), [
    "Ann of orange",
    "Bob invited to orange",
  ]);
});

test("S-TEN-20 what is no UUID is refused before any SQL, and an address is only ever a text", async (t) => {
  const nowhere = openDatabase({ url: "postgres://u:p@127.0.0.1:1/none", poolSize: 1, applicationName: "test" });
  t.after(() => nowhere[Symbol.asyncDispose]());
  const never = async () => assert.fail("it ran");
  for (const id of ["' or true", "", `${orange}'; reset all; --`, `${orange}\n`, "null"]) {
    for (const refusal of [forOrganization(nowhere.db, id, never), forPerson(nowhere.db, { userId: id }, never)]) {
      await assert.rejects(refusal, (error) => {
        assert.equal(reasonOf(error), "INVALID_REQUEST");
        assert.equal((error as { code?: Code }).code, Code.InvalidArgument);
        return true;
      });
    }
  }
  const { db } = await setUp(t);
  const emailKey = `'; set local concierge.organization = '${orange}'; --\\`;
  assert.deepEqual(await forPerson(db, { userId: ann, emailKey }, labels), []);
  await assert.rejects(forPerson(db, { userId: ann, emailKey: "\0" }, labels), /no NUL/);
  assert.deepEqual(await forOrganization(db, orange, labels), ["orange"]);
});

test("the job role reads and writes the rows of all", async (t) => {
  const { jobDb } = await setUp(t);
  assert.deepEqual(await labels(jobDb), ["orange", "purple"]);
  assert.equal((await jobDb.update(shelves).set({ label: "seen" }).returning()).length, 2);
  assert.equal((await jobDb.delete(readers).returning()).length, 4);
});

test("neither role that serves can take more than it has", async (t) => {
  const { db, jobDb, owner, runtimeRole, jobRole } = await setUp(t);
  const [{ name } = { name: "" }] = await owner<{ name: string }[]>`select current_user as name`;
  const attempts = [
    `set role "${name}"`,
    "set session authorization postgres",
    "alter table shelves disable row level security",
    "alter table shelves no force row level security",
    "drop policy tenant on shelves",
    "alter policy tenant on shelves using (true)",
    "create policy mine on shelves using (true)",
    "create view all_shelves as select * from shelves",
  ];
  for (const one of [db, jobDb]) {
    for (const attempt of attempts) assert.equal(await stateOf(one.execute(sql.raw(attempt))), refused, attempt);
    for (const role of [runtimeRole, jobRole]) {
      assert.equal(await stateOf(one.execute(sql.raw(`alter role "${role}" bypassrls`))), refused);
    }
  }
  assert.equal(await stateOf(db.execute(sql.raw(`set role "${jobRole}"`))), refused);
  const unfiltered = transaction(db, async (tx) => {
    await tx.execute(sql`set local row_security = off`);
    return labels(tx);
  });
  assert.equal(await stateOf(unfiltered), refused);
  assert.deepEqual(await labels(db), []);
});
