/** Databases of every release become today's: nothing in them is lost, and the services go on where they were. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sql } from "postgres";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { NotificationService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { connect, identifier } from "../db/connection.ts";
import { migrate } from "../db/migrate.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { type TestDatabase, testDatabase } from "../testing/cluster.ts";
import { logIn } from "../testing/people.ts";
import { describeSchema } from "../testing/schema.ts";
import { startTestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { loadDump } from "./dump.ts";
import { readDump, readPeople, releases, servicesOf } from "./released.ts";

const versions = await releases();
const newest = versions.at(-1)!;

function migrateToHead({ ownerUrl, runtimeUrl, jobUrl }: TestDatabase, service: string) {
  const [runtimeRole, jobRole] = [runtimeUrl, jobUrl].map((url) => new URL(url).username);
  const series = ["platform", service];
  return migrate({ ownerUrl, runtimeRole: runtimeRole!, jobRole, series, folder: MIGRATIONS_FOLDER });
}

async function asOwner<T>({ ownerUrl }: TestDatabase, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = connect(ownerUrl, { applicationName: "test" });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

/** By table. */
type Columns = Map<string, string[]>;

async function columnsOf(sql: Sql): Promise<Columns> {
  const rows = await sql<{ name: string; columns: string[] }[]>`
    select relname as name, array_agg(attname::text order by attnum) as columns
    from pg_class join pg_attribute on attrelid = pg_class.oid
    where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
    group by relname order by relname`;
  return new Map(rows.map(({ name, columns }) => [name, columns]));
}

/** The columns that both have, of the tables that both have. */
function common(some: Columns, others: Columns): Columns {
  const tables = [...some].filter(([name]) => others.has(name));
  return new Map(tables.map(([name, columns]) => [name, columns.filter((one) => others.get(name)!.includes(one))]));
}

/** Every row, with these columns: "table (values)". */
async function rowsOf(sql: Sql, columns: Columns): Promise<string[]> {
  const tables = [...columns].map(async ([name, some]) => {
    const list = some.map(identifier).join(", ");
    const rows = await sql.unsafe<{ row: string }[]>(`select row(${list})::text as row from ${identifier(name)}`);
    return rows.map(({ row }) => `${name} ${row}`);
  });
  return (await Promise.all(tables)).flat().sort();
}

/** What describeSchema() says, with the same names for the roles of any database. */
async function schemaOf(database: TestDatabase): Promise<string[]> {
  const roles = { owner: database.ownerUrl, runtime: database.runtimeUrl, job: database.jobUrl };
  const lines = await asOwner(database, describeSchema);
  const renamed = lines.map((line) =>
    Object.entries(roles).reduce((text, [role, url]) => text.replaceAll(new URL(url).username, role), line),
  );
  return renamed.sort();
}

/** The database of a service as it was in a release. */
async function openRelease(version: string, service: string): Promise<TestDatabase> {
  await using opened = new AsyncDisposableStack();
  const database = opened.use(await testDatabase([]));
  const text = await readDump(version, service);
  await asOwner(database, (sql) => loadDump(sql, text));
  opened.move();
  return database;
}

for (const version of versions) {
  for (const name of await servicesOf(version)) {
    test(`R-DEP-09 ${name} of release ${version}: every row reads back equal, and the schema is a new one's`, async () => {
      await using fresh = await testDatabase(["platform", name]);
      await using database = await openRelease(version, name);
      await asOwner(database, async (sql) => {
        const kept = common(await columnsOf(sql), await asOwner(fresh, columnsOf));
        const before = await rowsOf(sql, kept);
        await migrateToHead(database, name);
        const after = await rowsOf(sql, kept);
        const isNew = (row: string) => row.startsWith("concierge_migration ") && !before.includes(row);
        assert.deepEqual(
          after.filter((row) => !isNew(row)),
          before,
        );
      });
      assert.deepEqual(await schemaOf(database), await schemaOf(fresh));
    });
  }
}

test(`R-DEP-09 the services start on the databases of release ${newest}: its people log in and find what is theirs`, async () => {
  const databases: Record<string, TestDatabase> = {};
  for (const name of await servicesOf(newest)) {
    databases[name] = await openRelease(newest, name);
    await migrateToHead(databases[name], name);
  }
  await using system = await startTestSystem({ databases });
  const { organizationId, owner, member, newcomer } = await readPeople(newest);
  const ann = await logIn(system.asUser(AuthService), owner, organizationId);
  const ben = await logIn(system.asUser(AuthService), member);
  const organizations = system.asUser(OrganizationService, ann.accessToken);
  const { members } = await organizations.listMembers({});
  assert.deepEqual(members.map(({ userId }) => userId).sort(), [ann.userId, ben.userId].sort());
  const branches = (await organizations.listBranches({})).branches.map((branch) => branch.name);
  assert.deepEqual(branches.sort(), ["Main street", "Station"]);
  const { user } = await system.asUser(UserService, ben.accessToken).getMe({});
  assert.deepEqual([user!.firstName, user!.roles], ["Benjamin", ["auditor", "user"]]);
  const { notifications } = await system.asUser(NotificationService, ben.accessToken).listMyNotifications({});
  assert.ok(notifications.some(({ text }) => text === "Too late"));
  // what was published last had no position yet, and nobody had read it
  const late = await logIn(system.asUser(AuthService), newcomer);
  const profile = () => system.asUser(UserService, late.accessToken).getMe({});
  await until("the newcomer has a profile", () => profile().catch(() => undefined));
});
