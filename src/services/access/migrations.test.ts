/** What was given before there were organizations is carried over, and back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../../db/connection.ts";
import { migrate, migrateDown } from "../../db/migrate.ts";
import { MIGRATIONS_FOLDER } from "../../db/migrations.ts";
import { testDatabase } from "../../testing/cluster.ts";

test("administrators, roles and assignments of the platform survive the migration, up and down", async () => {
  await using database = await testDatabase(["platform", "access"]);
  const { ownerUrl, runtimeUrl, jobUrl } = database;
  const [runtimeRole, jobRole] = [runtimeUrl, jobUrl].map((url) => new URL(url).username);
  const options = { ownerUrl, runtimeRole: runtimeRole!, jobRole, folder: MIGRATIONS_FOLDER };
  assert.match(await migrateDown({ ...options, series: "access" }), /0003_organizations/);
  const sql = connect(ownerUrl, { applicationName: "test" });
  try {
    const [anne, bert] = [crypto.randomUUID(), crypto.randomUUID()].sort();
    await sql`insert into roles (name, description) values ('support', 'Helps'), ('owner', 'Owns things')`;
    await sql`insert into role_assignments (user_id, role, assigned_by) values
      (${anne!}, 'admin', 'ops'), (${anne!}, 'support', 'ops'), (${bert!}, 'owner', 'shop')`;
    await migrate({ ...options, series: ["platform", "access"] });
    assert.deepEqual((await sql`select user_id, assigned_by from admins`).map(Object.values), [[anne, "ops"]]);
    const given = await sql`
      select user_id, name, assigned_by, permissions from assignments join roles on roles.id = role_id order by 1`;
    assert.deepEqual(given.map(Object.values), [
      [anne, "support", "ops", []],
      [bert, "made-owner", "shop", []],
    ]);
    await migrateDown({ ...options, series: "access" });
    const back = await sql`select user_id, role, assigned_by from role_assignments order by 1, 2`;
    assert.deepEqual(back.map(Object.values), [
      [anne, "admin", "ops"],
      [anne, "support", "ops"],
      [bert, "made-owner", "shop"],
    ]);
  } finally {
    await sql.end();
  }
});
