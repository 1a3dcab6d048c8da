/** The second line: whichever query forgets its organization, the policies of the tables show and change nothing of another one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openDatabase, transaction } from "../../db/database.ts";
import { sqlStateOf } from "../../db/errors.ts";
import { usedPredicates, withoutPredicate } from "../../db/tenants.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { startTestSystem } from "../../testing/system.ts";
import { newOwner, type TestMember } from "../organization/testing.ts";
import { roles } from "./schema.ts";
import { asOwner, backendOf, memberOf } from "./testing.ts";

const isOfAccess = (name: string) => /^(roles|assignments)\./.test(name);

test("S-TEN-17 with the predicate of any one query left out, nothing of another organization is seen or changed", async () => {
  await using system = await startTestSystem();
  const [own, foreign] = [await newOwner(system), await newOwner(system)];
  const { branch } = await own.client.createBranch({ name: "Shop" });
  /** Everything that can be done with roles, from beginning to end; what was seen. */
  const liveThrough = async ({ organizationId, userId }: TestMember) => {
    const access = memberOf(system, own);
    const { branchId } = branch!;
    await access.createRole({ name: "helper", permissions: ["roles:read"] });
    await access.updateRole({ name: "helper", description: "Helps", updateMask: { paths: ["description"] } });
    await access.assignRole({ userId, role: "helper" });
    await access.grantPermission({ userId, permission: "roles:read", branchId });
    const question = { userId, organizationId, permission: "roles:read" };
    const seen = {
      roles: (await access.listRoles({})).roles.map(({ name, description }) => [name, description]),
      given: (await access.listAssignments({})).assignments.map(({ what }) => what.value),
      sources: (await access.explainPermission(question)).sources.map(({ role }) => role),
      holders: (await backendOf(system).listUsersWithPermission(question)).userIds,
      helpers: (await backendOf(system).listUsersWithRole({ organizationId, role: "helper" })).userIds,
    };
    await access.revokePermission({ userId, permission: "roles:read", branchId });
    await access.unassignRole({ userId, role: "helper" });
    await access.deleteRole({ name: "helper" });
    return seen;
  };
  await memberOf(system, foreign).createRole({ name: "helper", description: "Foreign", permissions: ["roles:read"] });
  await memberOf(system, foreign).createRole({ name: "foreign" });
  await memberOf(system, foreign).assignRole({ userId: foreign.userId, role: "helper" });
  await memberOf(system, foreign).grantPermission({ userId: foreign.userId, permission: "roles:read" });
  const everything = () =>
    asOwner(system, async (sql) => [
      ...(await sql`select * from roles order by id`),
      ...(await sql`select * from assignments order by id`),
    ]);
  const [before, seen] = [await everything(), await liveThrough(own)];
  assert.deepEqual(seen.given, ["helper", "roles:read"]);

  const names = usedPredicates().filter(isOfAccess);
  assert.ok(names.length >= 11, names.join());
  for (const name of names) {
    using _ = withoutPredicate(name);
    assert.deepEqual(await liveThrough(own), seen, name);
    assert.deepEqual(await everything(), before, name);
  }
});

test("a transaction without an organization writes nothing on the platform, unless it says so", async () => {
  await using stack = new AsyncDisposableStack();
  const { runtimeUrl } = stack.use(await testDatabase(["platform", "access"]));
  const { db } = stack.use(openDatabase({ url: runtimeUrl, poolSize: 1, applicationName: "test" }));
  const role = { id: crypto.randomUUID(), name: "helper", description: "", permissions: [] };
  const write = (settings?: Record<string, string>) =>
    transaction(db, (tx) => tx.insert(roles).values(role), { settings });
  const isRefused = (error: unknown) => sqlStateOf(error) === "42501";
  await assert.rejects(write(), isRefused);
  await assert.rejects(write({ "concierge.platform": "on", "concierge.organization": crypto.randomUUID() }), isRefused);
  await write({ "concierge.platform": "on" });
  assert.equal(await db.$count(roles), 1);
});
