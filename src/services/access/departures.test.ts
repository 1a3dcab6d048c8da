/** Who goes, and who comes back: nothing that was given to them stays. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Database, openDatabase, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import { holds } from "../../rights/rights.ts";
import type { CallScope } from "../../rpc/call.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { newMember, newOwner } from "../organization/testing.ts";
import { give } from "./assignments.ts";
import { change } from "./changes.ts";
import { removeMember } from "./departures.ts";
import { loadRights } from "./rights.ts";
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
    const { consistencyToken } = await owner.client.deleteOrganization({});
    await until("all of it is gone", nothingIsGivenIn(organizationId));
    const roles = await asOwner(system, (sql) => sql`select 1 from roles where organization_id = ${organizationId}`);
    assert.equal(roles.length, 0);
    const [last] = (await told(system, organizationId)).slice(-1);
    assert.deepEqual([last!.name, last!.fact.deleted], ["RoleChanged", true]);
    const gone = backendOf(system).checkPermission(
      { userId, organizationId, permission: "roles:read" },
      { headers: { "consistency-token": consistencyToken } },
    );
    await assert.rejects(gone, because("ORGANIZATION_NOT_FOUND"));
  });
});

/** access's database, without the rest of it. */
async function openAccessDatabase() {
  const stack = new AsyncDisposableStack();
  const { runtimeUrl, jobUrl, ...database } = stack.use(await testDatabase(["platform", "access"]));
  const access = stack.use(openDatabase({ url: runtimeUrl, poolSize: 4, applicationName: "test" }));
  const jobs = stack.use(openDatabase({ url: jobUrl, poolSize: 2, applicationName: "test" }));
  return { access, jobs, database, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** A member as organization answers; the answer may be an old one. */
async function openMembership({ db }: Database) {
  const member = { organizationId: crypto.randomUUID(), userId: crypto.randomUUID() };
  const answer = { role: 1, status: 1, branchIds: [], revision: 5n, membershipId: crypto.randomUUID() };
  const getMembership = async () => answer;
  const context = { db, clients: { organization: { getMembership } } } as unknown as AccessContext;
  const caller = { kind: "operator", name: "ann", callee: "access" };
  const { signal } = new AbortController();
  const scope = { caller, signal, timeoutMs: () => undefined } as unknown as CallScope;
  const held = async () => {
    const rights = await loadRights(context, member, { signal });
    return holds(rights, "roles:read");
  };
  return {
    ...member,
    answer,
    held,
    give: () => give(context, scope, { ...member, branchId: "", what: { permission: "roles:read" } }),
  };
}

test("S-TEN-22 whoever comes back holds nothing of before, whether the removal was followed, or what was given came after it", async () => {
  await using setting = await openAccessDatabase();
  const { access, jobs } = setting;
  const member = await openMembership(access);
  const first = member.answer.membershipId;
  const follow = (membershipId: string) => {
    return transaction(jobs.db, async (tx) => emit(tx, await removeMember(tx, { ...member, membershipId })));
  };
  await member.give();
  assert.ok(await member.held());
  member.answer.membershipId = crypto.randomUUID();
  assert.ok(!(await member.held()), "not followed yet");
  await member.give();
  await follow(first);
  assert.ok(await member.held(), "what was given since stays");
  const second = member.answer.membershipId;
  await follow(second);
  assert.equal(await jobs.db.$count(assignments), 0);
  await member.give();
  member.answer.membershipId = crypto.randomUUID();
  assert.ok(!(await member.held()), "given after the removal was followed");
});

test("a removal waits for no change of its organization that is under way: the follower goes on", async () => {
  await using setting = await openAccessDatabase();
  const { access, jobs } = setting;
  const [member, other] = [await openMembership(access), await openMembership(access)];
  const remove = ({ organizationId, userId, answer: { membershipId } }: typeof member) => {
    const ended = { organizationId, userId, membershipId };
    return transaction(jobs.db, async (tx) => emit(tx, await removeMember(tx, ended)));
  };
  await Promise.all([member.give(), other.give()]);
  const { signal } = new AbortController();
  await change(access.db, { signal }, member.organizationId, async () => {
    const error = await remove(member).then(
      () => undefined,
      (cause) => cause,
    );
    // Not CONFLICT, for which the follower would wait: it parks the event.
    assert.match(error.message, /is being changed/);
    await remove(other);
    return { result: undefined, events: [] };
  });
  assert.equal(await jobs.db.$count(assignments), 1);
  await remove(member);
  assert.equal(await jobs.db.$count(assignments), 0);
});
