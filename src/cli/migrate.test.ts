/** `concierge migrate` and `migrate-down` with the real migrations of every service. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { connect } from "../db/connection.ts";
import { dropDatabase } from "../db/provision.ts";
import { ExitCode } from "../errors.ts";
import { services } from "../services.ts";
import { type TestDatabase, testCluster, testDatabase } from "../testing/cluster.ts";
import { type Ended, runHere } from "../testing/command.ts";
import { describeData, describeSchema } from "../testing/schema.ts";

const withDatabase = services.filter(({ hasDatabase }) => hasDatabase);

async function ok(command: Promise<Ended>): Promise<string> {
  const { code, stdout, stderr } = await command;
  assert.deepEqual({ code, stderr }, { code: ExitCode.ok, stderr: "" });
  return stdout;
}

for (const { name, hasTenants } of withDatabase) {
  test(`${name}: up, down and up again makes the same schema; what is applied is not applied again`, async () => {
    await using database = await testDatabase(["platform"]);
    const prefix = `CONCIERGE_${name.toUpperCase()}`;
    const env = {
      [`${prefix}_DATABASE_URL`]: database.runtimeUrl,
      [`${prefix}_DATABASE_OWNER_URL`]: database.ownerUrl,
      ...(hasTenants && { [`${prefix}_DATABASE_JOB_URL`]: database.jobUrl }),
    };
    const sql = connect(database.ownerUrl, { applicationName: "test" });
    await using closing = new AsyncDisposableStack();
    closing.defer(() => sql.end());

    const empty = await describeSchema(sql);
    const planned = await ok(runHere(["migrate", name, "--plan"], env));
    assert.deepEqual(await describeSchema(sql), empty);
    const applied = await ok(runHere(["migrate", name], env));
    assert.match(applied, new RegExp(`^${name}: applied ${name}/0000_init\\.sql`));
    assert.equal(applied, planned.replace("would apply", "applied").replaceAll(" (expansion)", ""));
    assert.equal(await ok(runHere(["migrate", name], env)), `${name}: nothing left to apply\n`);
    const full = await describeSchema(sql);
    const seeded = await describeData(sql);
    assert.ok(full.length > empty.length);
    const newest = applied
      .trimEnd()
      .split(/[ ,]+/)
      .at(-1)!
      .replace(/\.sql$/, ".down.sql");
    assert.equal(await ok(runHere(["migrate-down", name], env)), `${name}: undid ${newest}\n`);
    if (newest.includes("0000_")) assert.deepEqual(await describeSchema(sql), empty, "the down script left something");
    await ok(runHere(["migrate", name], env));
    assert.deepEqual(await describeSchema(sql), full);
    assert.deepEqual(await describeData(sql), seeded);
  });
}

test("eight at once over an empty database all succeed, and leave it as one does", async () => {
  await using database = await testDatabase([]);
  await using alone = await testDatabase([]);
  const envOf = ({ runtimeUrl, ownerUrl }: TestDatabase) => ({
    CONCIERGE_AUTH_DATABASE_URL: runtimeUrl,
    CONCIERGE_AUTH_DATABASE_OWNER_URL: ownerUrl,
  });
  const describe = async ({ ownerUrl }: TestDatabase) => {
    const sql = connect(ownerUrl, { applicationName: "test" });
    const lines = [...(await describeSchema(sql)), ...(await describeData(sql))];
    await sql.end();
    return lines;
  };
  const runs = Array.from({ length: 8 }, () => ok(runHere(["migrate", "auth"], envOf(database))));
  const said = await Promise.all(runs);
  assert.equal(said.filter((line) => line === "auth: nothing left to apply\n").length, 7);
  await ok(runHere(["migrate", "auth"], envOf(alone)));
  assert.deepEqual(await describe(database), await describe(alone));
});

test("S-CFG-05 a fresh migration makes no account and no other row: nobody is anybody", async () => {
  for (const { name } of withDatabase) {
    await using database = await testDatabase(["platform", name]);
    const sql = connect(database.ownerUrl, { applicationName: "test" });
    await using closing = new AsyncDisposableStack();
    closing.defer(() => sql.end());
    const bookkeeping = ["concierge_migration", "feed_state"];
    const filled = (await describeData(sql)).filter((line) => !bookkeeping.includes(line.split(" ")[0]!));
    const kinds = [...new Set(filled.map((line) => line.split(" ")[0]))];
    assert.deepEqual(kinds, [], `${name} has rows from the start`);
  }
});

test("R-DEP-08 a newer history of expansions: plan and migrate say so, and change nothing", async () => {
  await using database = await testDatabase(["platform", "user"]);
  const env = {
    CONCIERGE_USER_DATABASE_URL: database.runtimeUrl,
    CONCIERGE_USER_DATABASE_OWNER_URL: database.ownerUrl,
  };
  const sql = connect(database.ownerUrl, { applicationName: "test" });
  await sql`insert into concierge_migration (series, name, checksum, is_expansion) values ('user', '9000_x', '', true)`;
  await sql.end();
  const said = "user: ahead of this release by expansions: user/9000_x.sql\nuser: nothing left to apply\n";
  assert.equal(await ok(runHere(["migrate", "user", "--plan"], env)), said);
  assert.equal(await ok(runHere(["migrate", "user"], env)), said);
});

test("S-INJ-07 a migration that was edited after it was applied: exit 78, named with its service", async () => {
  await using database = await testDatabase(["platform", "auth"]);
  const env = {
    CONCIERGE_AUTH_DATABASE_URL: database.runtimeUrl,
    CONCIERGE_AUTH_DATABASE_OWNER_URL: database.ownerUrl,
  };
  const sql = connect(database.ownerUrl, { applicationName: "test" });
  await sql`update concierge_migration set checksum = 'another' where series = 'auth'`;
  await sql.end();
  const { code, stderr } = await runHere(["migrate", "auth"], env);
  assert.equal(code, ExitCode.config);
  assert.match(
    stderr,
    /^concierge: auth: the database does not match the migrations:\n {2}auth\/0000_init.sql: edited/,
  );
});

test("a wrong password: exit 78, and it is not shown", async () => {
  await using database = await testDatabase(["platform"]);
  const ownerUrl = new URL(database.ownerUrl);
  ownerUrl.password = "canary-Qx7-Vw2-Zt9-Lk4";
  const env = { CONCIERGE_AUTH_DATABASE_URL: database.runtimeUrl, CONCIERGE_AUTH_DATABASE_OWNER_URL: ownerUrl.href };
  const { code, stderr } = await runHere(["migrate", "auth"], env);
  assert.equal(code, ExitCode.config);
  assert.match(stderr, /^concierge: auth: the database refuses the login \(SQLSTATE 28P01\)/);
  assert.ok(!stderr.includes("canary"));
});

test("--development works on the folder's databases, and says what it did", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "concierge-migrate-"));
  await chmod(folder, 0o755);
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { adminUrl } = await testCluster();
  // The names of a development folder's databases are fixed, so this test has the cluster's "concierge_*" for itself.
  t.after(async () => {
    for (const { name } of withDatabase) await dropDatabase(adminUrl, `concierge_${name}`);
  });
  const migrate = (...args: string[]) =>
    ok(runHere([...args, "--development", "--folder", folder], { DATABASE_URL: adminUrl }));
  const all = await migrate("migrate");
  for (const { name } of withDatabase) {
    assert.match(
      all,
      new RegExp(
        `^${name}: applied platform/0000_platform\\.sql, platform/0001_feed\\.sql, platform/0002_feed_floor\\.sql, ` +
          `platform/0003_feed_lease\\.sql, platform/0004_stamp_one_by_one\\.sql, ${name}/0000_init\\.sql`,
        "m",
      ),
    );
  }
  assert.match(await migrate("migrate-down", "access"), /^access: undid access\//);
  assert.match(await migrate("migrate"), /^auth: nothing left to apply\naccess: applied access\//);
});

test("--development over a DATABASE_URL that is down or refuses the login says so, without the URL", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "concierge-migrate-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { adminUrl } = await testCluster();
  const wrong = new URL(adminUrl);
  wrong.password = "canary";
  const args = ["migrate", "--development", "--folder", folder];
  const refused = await runHere(args, { DATABASE_URL: wrong.href });
  assert.equal(refused.code, ExitCode.config);
  assert.match(refused.stderr, /^concierge: the database refuses the login \(SQLSTATE 28P01\)/);
  const down = await runHere(args, { DATABASE_URL: "postgres://admin:canary@127.0.0.1:1/postgres" });
  assert.equal(down.code, ExitCode.unavailable);
  assert.equal(down.stderr, "concierge: the database is not available\n");
  assert.ok(!`${refused.stderr}${down.stderr}`.includes("canary"));
});
