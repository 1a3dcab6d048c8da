/** Who goes, and who comes back: nothing that was given to them stays. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { openDatabase, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { newMember, newOwner } from "../organization/testing.ts";
import { give } from "./assignments.ts";
import { removeMember } from "./departures.ts";
import { assignments } from "./schema.ts";
import type { AccessContext } from "./service.ts";
import { asOwner, backendOf, because, memberOf, told, toldOf } from "./testing.ts";

describe("departures", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const nothingIsGivenIn = (organizationId: string) => async () => {
    const rows = await asOwner(
      system,
      (sql) => sql`select 1 from assignments where organization_id = ${organizationId}`,
    );
    return rows.length === 0;
  };

  test("what was given to a member who is removed is taken and told; who comes back starts with nothing", async () => {
    const owner = await newOwner(system);
    const member = await newMember(system, owner);
    const access = memberOf(system, owner);
    const { userId, organizationId } = member;
    const { branch } = await owner.client.createBranch({ name: "Shop" });
    await access.createRole({ name: "helper", permissions: ["roles:read"] });
    await access.assignRole({ userId, role: "helper", branchId: branch!.branchId });
    await access.grantPermission({ userId, permission: "profiles:read" });
    await owner.client.removeMember({ userId });
    await until("all of it is taken", nothingIsGivenIn(organizationId));
    const facts = await toldOf(system, userId, organizationId);
    assert.deepEqual(facts, [
      "RoleAssigned helper",
      "PermissionGranted profiles:read",
      "RoleUnassigned helper",
      "PermissionRevoked profiles:read",
    ]);
    const [revoked] = (await told(system, organizationId)).filter(({ name }) => name === "RoleUnassigned");
    assert.equal(revoked!.fact.branchId, branch!.branchId);
    await assert.rejects(access.grantPermission({ userId, permission: "roles:read" }), because("MEMBER_NOT_FOUND"));
  });

  test("an organization that is deleted leaves neither roles nor what was given", async () => {
    const owner = await newOwner(system);
    const { organizationId, userId } = owner;
    const access = memberOf(system, owner);
    await access.createRole({ name: "helper" });
    await access.assignRole({ userId, role: "helper" });
    await owner.client.deleteOrganization({});
    await until("all of it is gone", nothingIsGivenIn(organizationId));
    const roles = await asOwner(system, (sql) => sql`select 1 from roles where organization_id = ${organizationId}`);
    assert.equal(roles.length, 0);
    const [last] = (await told(system, organizationId)).slice(-1);
    assert.deepEqual([last!.name, last!.fact.deleted], ["RoleChanged", true]);
    const gone = backendOf(system).checkPermission({ userId, organizationId, permission: "roles:read" });
    await assert.rejects(gone, because("ORGANIZATION_NOT_FOUND"));
  });
});

test("what is given to somebody whose removal was followed meanwhile is refused, unless they have come back since", async () => {
  const { runtimeUrl, jobUrl, ...database } = await testDatabase(["platform", "access"]);
  await using _ = { [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
  await using access = openDatabase({ url: runtimeUrl, poolSize: 4, applicationName: "test" });
  await using jobs = openDatabase({ url: jobUrl, poolSize: 2, applicationName: "test" });
  const [organizationId, userId] = [crypto.randomUUID(), crypto.randomUUID()];
  let revision = 5n;
  // organization's answer, as it was when it was asked
  const getMembership = async () => ({ role: 1, status: 1, branchIds: [], revision });
  const context = { db: access.db, clients: { organization: { getMembership } } } as unknown as AccessContext;
  const caller = { kind: "operator", name: "ann", callee: "access" };
  const { signal } = new AbortController();
  const scope = { caller, signal, timeoutMs: () => undefined } as unknown as CallScope;
  const giving = () => {
    return give(context, scope, { userId, organizationId, branchId: "", what: { permission: "roles:read" } });
  };
  const remove = (at: bigint) => {
    return transaction(jobs.db, async (tx) => emit(tx, await removeMember(tx, { organizationId, userId }, at)));
  };
  const given = () => jobs.db.$count(assignments);
  await giving();
  assert.equal(await given(), 1);
  await remove(7n);
  await assert.rejects(giving(), because("USER_NOT_FOUND"));
  await remove(6n);
  revision = 6n;
  await assert.rejects(giving(), because("USER_NOT_FOUND"));
  assert.equal(await given(), 0);
  revision = 8n;
  await giving();
  assert.equal(await given(), 1);
});
