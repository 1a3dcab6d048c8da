/** Members: what they are, who changes it, and that an owner is left whatever happens at the same time. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { changeMemberRole, leaveOrganization, removeMember, transferOwnership } from "./memberships.ts";
import {
  answerOf,
  inDatabase,
  newMember,
  newOwner,
  openTestDatabase,
  scope,
  type TestMember,
  toldOf,
} from "./testing.ts";

const { MEMBER, ADMIN, OWNER } = MemberRole;

describe("members", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const rolesIn = async ({ client }: TestMember) => {
    const { members } = await client.listMembers({});
    return Object.fromEntries(members.map(({ userId, role }) => [userId, role]));
  };
  const told = ({ organizationId }: TestMember) =>
    inDatabase(system, "organization", (sql) => toldOf(sql, organizationId));

  test("roles are changed, once told of, and nobody deals with more than they are", async () => {
    const owner = await newOwner(system);
    const [admin, member] = [await newMember(system, owner, ADMIN), await newMember(system, owner)];
    const change = (by: TestMember, { userId }: TestMember, role: MemberRole) =>
      answerOf(by.client.changeMemberRole({ userId: userId.toUpperCase(), role }));
    const before = (await told(owner)).length;
    assert.equal(await change(admin, member, ADMIN), "done");
    assert.equal(await change(admin, member, ADMIN), "done");
    assert.deepEqual((await told(owner)).slice(before), ["MemberChanged"]);
    assert.equal(await change(admin, member, MEMBER), "done");

    for (const role of [OWNER, ADMIN, MEMBER]) {
      assert.equal(await change(admin, owner, role), "PERMISSION_MISSING", "an admin changes an owner");
    }
    assert.equal(await change(admin, member, OWNER), "PERMISSION_MISSING", "an admin makes an owner");
    assert.equal(await change(admin, admin, OWNER), "PERMISSION_MISSING", "an admin becomes an owner");
    assert.equal(await answerOf(admin.client.removeMember({ userId: owner.userId })), "PERMISSION_MISSING");
    assert.equal(
      await answerOf(admin.client.inviteMember({ email: "a@example.com", role: OWNER })),
      "PERMISSION_MISSING",
    );
    assert.equal(await answerOf(admin.client.transferOwnership({ userId: member.userId })), "PERMISSION_MISSING");
    assert.equal(await change(member, member, ADMIN), "PERMISSION_MISSING", "a member does anything");
    assert.deepEqual(await rolesIn(owner), { [owner.userId]: OWNER, [admin.userId]: ADMIN, [member.userId]: MEMBER });
    assert.equal(await change(owner, admin, MemberRole.UNSPECIFIED), "INVALID_REQUEST");
  });

  test("members of another organization are nobody, and who is removed may do nothing any more", async () => {
    const [owner, other] = [await newOwner(system), await newOwner(system)];
    const member = await newMember(system, owner, ADMIN);
    for (const userId of [member.userId, crypto.randomUUID()]) {
      assert.equal(await answerOf(other.client.removeMember({ userId })), "MEMBER_NOT_FOUND");
      assert.equal(await answerOf(other.client.changeMemberRole({ userId, role: MEMBER })), "MEMBER_NOT_FOUND");
      assert.equal(await answerOf(other.client.transferOwnership({ userId })), "MEMBER_NOT_FOUND");
    }
    const stranger = system.asUser(OrganizationService, other.accessToken);
    const { organizationId } = owner;
    assert.equal(await answerOf(stranger.leaveOrganization({ organizationId })), "ORGANIZATION_NOT_FOUND");
    assert.equal(await answerOf(member.client.listMembers({})), "done");
    await owner.client.removeMember({ userId: member.userId });
    await until("the removed to be refused", async () => {
      return (await answerOf(member.client.listMembers({}))) === "PERMISSION_MISSING";
    });
    const membership = { organizationId, userId: member.userId };
    const operator = system.asService(OrganizationInternalService, "operator", "organization");
    assert.equal((await operator.getMembership(membership)).role, MemberRole.UNSPECIFIED);
    assert.equal((await told(owner)).at(-1), "MemberRemoved");
  });

  test("S-TEN-11 the last owner stays: no leaving, removing or demoting, by whoever and in whatever state", async () => {
    const owner = await newOwner(system);
    const admin = await newMember(system, owner, ADMIN);
    const { organizationId, userId, client } = owner;
    const organizations = system.asUser(OrganizationService, owner.accessToken);
    const attempts = [
      organizations.leaveOrganization({ organizationId }),
      client.removeMember({ userId }),
      client.changeMemberRole({ userId, role: ADMIN }),
      client.changeMemberRole({ userId, role: MEMBER }),
    ];
    assert.deepEqual(await Promise.all(attempts.map(answerOf)), Array(4).fill("LAST_OWNER"));
    assert.equal(await answerOf(client.transferOwnership({ userId })), "MEMBER_NOT_FOUND", "to oneself");
    const operator = system.asService(OrganizationInternalService, "operator", "organization");
    await operator.suspendOrganization({ organizationId });
    assert.equal(await answerOf(organizations.leaveOrganization({ organizationId })), "LAST_OWNER", "suspended");
    await operator.resumeOrganization({ organizationId });
    await until("the owner's rights", async () => (await answerOf(client.listMembers({}))) === "done");
    assert.deepEqual(await rolesIn(owner), { [userId]: OWNER, [admin.userId]: ADMIN });

    await client.transferOwnership({ userId: admin.userId });
    const { consistencyToken } = await operator.suspendOrganization({ organizationId });
    assert.ok(consistencyToken);
    assert.equal(await answerOf(organizations.leaveOrganization({ organizationId })), "done");
    const left = system.asUser(OrganizationService, admin.accessToken).leaveOrganization({ organizationId });
    assert.equal(await answerOf(left), "LAST_OWNER");
  });

  test("an organization with its only member cannot be left, even by who is alone in it", async () => {
    const { organizationId, accessToken } = await newOwner(system);
    const left = system.asUser(OrganizationService, accessToken).leaveOrganization({ organizationId });
    assert.equal(await answerOf(left), "LAST_OWNER");
  });
});

describe("two owners at once", () => {
  const ROUNDS = 100;
  const newPeople = () => [crypto.randomUUID(), crypto.randomUUID()] as const;

  test("S-TEN-21 R-CON-04 an owner is left, whichever two ways to lose one happen at the same time", async () => {
    await using database = await openTestDatabase();
    const { db, sql } = database;
    const ways = {
      remove: (by: string, userId: string, organizationId: string) =>
        removeMember(db, scope, acting(by, organizationId), userId, () => {}),
      demote: (by: string, userId: string, organizationId: string) =>
        changeMemberRole(db, scope, acting(by, organizationId), { userId, role: "member" }, () => {}),
      leave: (_: string, userId: string, organizationId: string) =>
        leaveOrganization(db, scope, { userId }, organizationId),
      transfer: (by: string, userId: string, organizationId: string) =>
        transferOwnership(db, scope, acting(userId, organizationId), by),
    };
    const names = Object.keys(ways) as (keyof typeof ways)[];
    const answers = new Set<string>();
    for (let round = 0; round < ROUNDS; round++) {
      const [ann, bob] = newPeople();
      const organizationId = await database.found(ann);
      await database.put(organizationId, bob, "owner");
      // Mostly as the case has it: A is removed while B is demoted.
      const [one, other] = round % 2 ? (["remove", "demote"] as const) : [names[round % 4]!, names[(round >> 2) % 4]!];
      const ended = [ways[one](bob, ann, organizationId), ways[other](ann, bob, organizationId)];
      for (const answer of await Promise.all(ended.map(answerOf))) answers.add(answer);
      const owners = await sql`select 1 from memberships where organization_id = ${organizationId} and role = 'owner'`;
      assert.ok(owners.length >= 1, `round ${round}: ${one} and ${other}`);
    }
    const expected = ["done", "LAST_OWNER", "PERMISSION_MISSING", "MEMBER_NOT_FOUND", "ORGANIZATION_NOT_FOUND"];
    assert.deepEqual(
      [...answers].filter((answer) => !expected.includes(answer)),
      [],
    );
    assert.ok(answers.has("PERMISSION_MISSING") && answers.has("LAST_OWNER"), "the second is decided after the first");
  });

  test("what a member may do is decided by what they are now, whatever was known before", async () => {
    await using database = await openTestDatabase();
    const [ann, bob] = newPeople();
    const organizationId = await database.found(ann);
    const remove = () => answerOf(removeMember(database.db, scope, acting(bob, organizationId), ann, () => {}));
    assert.equal(await remove(), "PERMISSION_MISSING", "no member");
    await database.put(organizationId, bob, "owner");
    await database.sql`update organizations set status = 'suspended' where id = ${organizationId}`;
    assert.equal(await remove(), "PERMISSION_MISSING", "suspended");
    await database.sql`update organizations set status = 'active' where id = ${organizationId}`;
    assert.equal(await remove(), "done");
  });
});

function acting(userId: string, organizationId: string) {
  return { kind: "user", sessionId: "", userId, organizationId } as const;
}
