import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { ExitCode, StartupError } from "../errors.ts";
import { testCluster } from "../testing/cluster.ts";
import { connect } from "./connection.ts";
import { checkSchema, migrate } from "./migrate.ts";
import { MIGRATIONS_FOLDER } from "./migrations.ts";
import { dropDatabase, provisionDatabase } from "./provision.ts";

/** A migrated database with three roles of its own, and a table of organizations' rows as a migration makes it. */
async function setUp(t: TestContext) {
  const { adminUrl } = await testCluster();
  const database = `policies_${crypto.randomUUID().slice(0, 8)}`;
  const [ownerRole, runtimeRole, jobRole] = [`${database}_owner`, `${database}_runtime`, `${database}_job`];
  const [ownerPassword, runtimePassword, password] = [1, 2, 3].map(() => crypto.randomUUID()) as [
    string,
    string,
    string,
  ];
  const plan = { database, ownerRole, runtimeRole, ownerPassword, runtimePassword, job: { role: jobRole, password } };
  const { ownerUrl, runtimeUrl, jobUrl } = await provisionDatabase(adminUrl, plan);
  const admin = connect(adminUrl, { applicationName: "test" });
  const owner = connect(ownerUrl, { applicationName: "test" });
  t.after(async () => {
    await owner.end();
    await admin.end();
    await dropDatabase(adminUrl, database, [ownerRole, runtimeRole, jobRole]);
  });
  const schema = { series: ["platform"], folder: MIGRATIONS_FOLDER };
  const apply = (roles = {}) => migrate({ ...schema, ownerUrl, runtimeRole, jobRole, ...roles });
  const check = (urls = {}) => checkSchema({ ...schema, runtimeUrl, jobUrl, ...urls });
  await owner`create table shelf (organization_id uuid not null)`;
  await owner`alter table shelf enable row level security`;
  await apply();
  return { ...{ ownerUrl, runtimeUrl, jobUrl: jobUrl!, runtimeRole, jobRole }, admin, owner, apply, check };
}

/** Refused with exit code 78, saying exactly this. */
function refusal(...problems: string[]) {
  return (error: unknown) => {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, ExitCode.config);
    const lines = ["the database does not keep organizations apart:", ...problems.map((problem) => `  ${problem}`)];
    assert.deepEqual(error.message.split("\n"), lines);
    return true;
  };
}

test("migrate gives the job role a service's rights and a policy, leaves a right one alone, corrects others", async (t) => {
  const { owner, runtimeRole, jobRole, apply, check } = await setUp(t);
  const policies = async () => [
    ...(await owner`
      select oid, roles::text, cmd, qual, with_check from pg_policies
      join pg_policy on polname = policyname and polrelid = tablename::regclass where policyname = 'jobs'`),
  ];
  const [made, ...others] = await policies();
  assert.deepEqual(others, []);
  assert.deepEqual(
    { ...made, oid: 0 },
    { oid: 0, roles: `{${jobRole}}`, cmd: "ALL", qual: "true", with_check: "true" },
  );
  await apply();
  assert.deepEqual(await policies(), [made]);
  for (const wrong of [
    `alter policy jobs on shelf to "${runtimeRole}"`,
    "alter policy jobs on shelf using (false)",
    "drop policy jobs on shelf; create policy jobs on shelf for select using (true)",
  ]) {
    await owner.unsafe(wrong);
    await apply();
    assert.deepEqual(
      (await policies()).map((policy) => ({ ...policy, oid: 0 })),
      [{ ...made, oid: 0 }],
    );
  }
  const rights = await owner`
    select grantee, table_name, privilege_type from information_schema.role_table_grants
    where grantee in (${runtimeRole}, ${jobRole}) order by 1, 2, 3`;
  const of = (role: string) => rights.filter(({ grantee }) => grantee === role).map((row) => ({ ...row, grantee: "" }));
  assert.deepEqual(of(jobRole), of(runtimeRole));
  assert.ok(of(jobRole).length > 20);
  await check();
});

test("one role for service and jobs: migrate does nothing, and no service starts", async (t) => {
  const { apply, check, runtimeRole, runtimeUrl, jobUrl } = await setUp(t);
  await assert.rejects(apply({ jobRole: runtimeRole }), /must be another than the run-time role/);
  const same = "the run-time role must be another than the job role";
  await assert.rejects(check({ runtimeUrl: jobUrl }), refusal(same));
  await assert.rejects(check({ jobUrl: runtimeUrl }), refusal(missing("shelf")));
});

const missing = (table: string) => `${table}: it has no policy for the job role; run \`concierge migrate\``;

test("no service starts whose roles own a table, or see past policies, by membership neither", async (t) => {
  const { admin, owner, apply, check, ownerUrl, runtimeRole, jobRole } = await setUp(t);
  await check();
  for (const [name, role] of [
    ["run-time", runtimeRole],
    ["job", jobRole],
  ] as const) {
    const power = refusal(`the ${name} role must not be a superuser or have BYPASSRLS, by membership neither`);
    for (const attribute of ["superuser", "bypassrls"]) {
      await admin.unsafe(`alter role "${role}" ${attribute}`);
      await assert.rejects(check(), power);
      await admin.unsafe(`alter role "${role}" no${attribute}`);
    }
    await admin.unsafe(`create role "${role}_group" bypassrls; grant "${role}_group" to "${role}"`);
    await assert.rejects(check(), power);
    await admin.unsafe(`drop role "${role}_group"`);
  }
  const owned = /^ {2}shelf: the run-time role must not own it$/m;
  await assert.rejects(check({ runtimeUrl: ownerUrl }), owned);
  await admin.unsafe(`grant "${new URL(ownerUrl).username}" to "${runtimeRole}"`);
  await assert.rejects(check(), owned);
  await admin.unsafe(`revoke "${new URL(ownerUrl).username}" from "${runtimeRole}"`);
  await owner`create table late (organization_id uuid)`;
  await owner`create table plain (name text)`;
  await owner`create table named (id uuid)`;
  await owner`create policy tenant on named using (id is null)`;
  const unprotected = (name: string) => `${name}: it has an organization_id or a policy, but no row-level security`;
  await assert.rejects(check(), refusal(unprotected("late"), unprotected("named")));
  await owner`drop table named`;
  await owner`alter table late enable row level security`;
  await assert.rejects(check(), refusal(missing("late")));
  await apply();
  await check();
});

test("the job role's database is checked like the run-time role's", async (t) => {
  const { check, jobUrl } = await setUp(t);
  const other = await setUp(t);
  await other.owner`update concierge_migration set checksum = 'another'`;
  const elsewhere = new URL(other.jobUrl);
  await assert.rejects(check({ jobUrl: elsewhere.href }), /does not match the migrations/);
  elsewhere.password = new URL(jobUrl).password;
  await assert.rejects(check({ jobUrl: elsewhere.href }), /refuses the login/);
});
