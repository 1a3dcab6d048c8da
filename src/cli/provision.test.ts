/** `concierge provision` over a real server: what it makes is what `migrate` and `serve` are then configured with. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { connect, withDatabase } from "../db/connection.ts";
import { sqlStateOf } from "../db/errors.ts";
import { dropDatabase } from "../db/provision.ts";
import { newPassword } from "../dev/state.ts";
import { ExitCode } from "../errors.ts";
import { testCluster } from "../testing/cluster.ts";
import { runHere } from "../testing/command.ts";

const NO_CONNECT = "42501";

async function setting(t: TestContext) {
  const { adminUrl } = await testCluster();
  const folder = await mkdtemp(join(tmpdir(), "concierge-provision-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const admin = join(folder, "admin-url");
  await writeFile(admin, `${adminUrl}\n`, { mode: 0o600 });
  const name = `provision_${randomBytes(4).toString("hex")}`;
  const roles = [`${name}_owner`, name, `${name}_job`];
  t.after(() => dropDatabase(adminUrl, name, roles));
  // With other passwords each time.
  const urls = () => {
    const logins = roles.map((role) => ({ role, password: newPassword() }));
    const [owner, runtime, job] = logins.map((login) => withDatabase(adminUrl, name, login));
    return {
      CONCIERGE_ACCESS_DATABASE_OWNER_URL: owner,
      CONCIERGE_ACCESS_DATABASE_URL: runtime,
      CONCIERGE_ACCESS_DATABASE_JOB_URL: job,
    };
  };
  return { adminUrl, folder, admin, urls };
}

/** "open", or the server's reason against it. */
async function login(url: string): Promise<string | undefined> {
  const sql = connect(url, { applicationName: "test" });
  try {
    await sql`select 1`;
    return "open";
  } catch (error) {
    return sqlStateOf(error);
  } finally {
    await sql.end();
  }
}

test("it makes what the URLs name, which `migrate` can use, and nothing else that is there", async (t) => {
  const { adminUrl, admin, urls } = await setting(t);
  const env = urls();
  assert.equal((await runHere(["provision", "access", "--admin", admin], env)).code, ExitCode.ok);
  const migrated = await runHere(["migrate", "access"], env);
  assert.deepEqual([migrated.code, migrated.stderr], [ExitCode.ok, ""]);
  for (const url of Object.values(env)) assert.equal(await login(url!), "open");
  const other = await setting(t);
  const otherEnv = other.urls();
  assert.equal((await runHere(["provision", "access", "--admin", admin], otherEnv)).code, ExitCode.ok);
  const { username: role, password } = new URL(env.CONCIERGE_ACCESS_DATABASE_URL!);
  const database = new URL(otherEnv.CONCIERGE_ACCESS_DATABASE_URL!).pathname.slice(1);
  const intruder = withDatabase(adminUrl, database, { role, password: decodeURIComponent(password) });
  assert.equal(await login(intruder), NO_CONNECT);
});

test("run again with other passwords, it changes them", async (t) => {
  const { admin, urls } = await setting(t);
  const [before, after] = [urls(), urls()];
  for (const env of [before, after]) await runHere(["provision", "access", "--admin", admin], env);
  assert.equal(await login(before.CONCIERGE_ACCESS_DATABASE_URL!), "28P01");
  assert.equal(await login(after.CONCIERGE_ACCESS_DATABASE_URL!), "open");
});

test("a wrong administrator, or none: exit 78, and no password is shown", async (t) => {
  const { adminUrl, folder, admin, urls } = await setting(t);
  const wrong = new URL(adminUrl);
  wrong.password = "canary-Qx7-Vw2-Zt9-Lk4";
  const cases: [text: string, says: RegExp][] = [
    [wrong.href, /^concierge: access: the database refuses the login/],
    ["canary-Qx7-Vw2-Zt9-Lk4", /does not hold a URL$/m],
  ];
  for (const [text, says] of cases) {
    await writeFile(admin, text);
    const { code, stderr } = await runHere(["provision", "access", "--admin", admin], urls());
    assert.deepEqual([code, stderr.includes("canary")], [ExitCode.config, false]);
    assert.match(stderr, says);
  }
  const { code, stderr } = await runHere(["provision", "--admin", join(folder, "none")], urls());
  assert.deepEqual([code, /cannot be read \(ENOENT\)/.test(stderr)], [ExitCode.config, true]);
});
