/** Invitations: made, seen, used once and by the right person only. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { mailTo, tokenIn } from "../../testing/mails.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { inviteMember, sweepInvitations } from "./invitations.ts";
import {
  answerOf,
  inDatabase,
  newMember,
  newOwner,
  newVerifiedUser,
  openTestDatabase,
  scope,
  type TestMember,
} from "./testing.ts";

const { MEMBER, ADMIN, OWNER } = MemberRole;
const DAY_MS = 86_400_000;

describe("invitations", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const people = ({ accessToken }: TestUser) => system.asUser(OrganizationService, accessToken);
  const accept = (user: TestUser, invitationId: string) => answerOf(people(user).acceptInvitation({ invitationId }));
  const invite = async ({ client }: TestMember, email: string, role: MemberRole = MEMBER) =>
    (await client.inviteMember({ email, role })).invitation!.invitationId;
  const openOf = async ({ client }: TestMember) => {
    const { invitations } = await client.listInvitations({});
    return invitations.map(({ invitationId }) => invitationId);
  };

  test("whoever has proven to have the address sees it, becomes what it says, and nobody does so twice", async () => {
    const owner = await newOwner(system, "Bäckerei");
    const user = await system.newUser({ email: "Zoe.ONeil@Example.com" });
    const invitationId = await invite(owner, "zoE.oneil@example.COM", ADMIN);
    const [open] = (await owner.client.listInvitations({})).invitations;
    assert.deepEqual([open?.invitationId, open?.email], [invitationId, "zoE.oneil@example.COM"]);
    assert.deepEqual([open?.role, open?.invitedBy], [ADMIN, owner.userId]);
    assert.equal(Number(open!.expiresAt!.seconds - open!.createdAt!.seconds), (7 * DAY_MS) / 1_000);

    assert.deepEqual((await people(user).listMyInvitations({})).invitations, [], "not verified yet");
    assert.equal(await accept(user, invitationId), "EMAIL_NOT_VERIFIED");
    assert.equal(await accept(user, crypto.randomUUID()), "EMAIL_NOT_VERIFIED", "and nothing is told of others");
    const { text } = await mailTo(system, user.email, "Confirm your e-mail address");
    await system.asUser(AuthService).verifyEmail({ token: tokenIn(text), password: user.password });
    // Which has ended the sessions of before.
    Object.assign(user, await system.asUser(AuthService).login({ email: user.email, password: user.password }));
    const [own] = (await people(user).listMyInvitations({})).invitations;
    assert.deepEqual([own?.invitationId, own?.organizationName, own?.role], [invitationId, "Bäckerei", ADMIN]);

    const answers = await Promise.all(Array.from({ length: 5 }, () => accept(user, invitationId)));
    assert.deepEqual(answers.sort(), [
      "INVITATION_NOT_FOUND",
      "INVITATION_NOT_FOUND",
      "INVITATION_NOT_FOUND",
      "INVITATION_NOT_FOUND",
      "done",
    ]);
    const [membership] = (await people(user).listMyOrganizations({})).organizations;
    assert.deepEqual([membership?.organization?.organizationId, membership?.role], [owner.organizationId, ADMIN]);
    assert.deepEqual([await openOf(owner), (await people(user).listMyInvitations({})).invitations], [[], []]);
  });

  test("it is not there for another address, once it is revoked, declined, replaced or too old, and never for another organization", async () => {
    const [owner, other] = [await newOwner(system), await newOwner(system)];
    const [user, stranger] = [await newVerifiedUser(system), await newVerifiedUser(system)];
    const first = await invite(owner, user.email);
    const second = await invite(owner, user.email.toUpperCase());
    assert.deepEqual(await openOf(owner), [second]);
    assert.equal(await accept(user, first), "INVITATION_NOT_FOUND", "replaced");
    for (const id of [second, crypto.randomUUID()]) {
      assert.equal(await accept(stranger, id), "INVITATION_NOT_FOUND", "another address");
      const declined = people(stranger).declineInvitation({ invitationId: id });
      assert.equal(await answerOf(declined), "INVITATION_NOT_FOUND");
      assert.equal(await answerOf(other.client.revokeInvitation({ invitationId: id })), "INVITATION_NOT_FOUND");
    }
    await owner.client.revokeInvitation({ invitationId: second });
    assert.equal(await accept(user, second), "INVITATION_NOT_FOUND", "revoked");
    assert.equal(await answerOf(owner.client.revokeInvitation({ invitationId: second })), "INVITATION_NOT_FOUND");
    const third = await invite(owner, user.email);
    await people(user).declineInvitation({ invitationId: third });
    assert.equal(await accept(user, third), "INVITATION_NOT_FOUND", "declined");
    const old = await invite(owner, user.email);
    await inDatabase(system, "organization", (sql) => {
      return sql`update invitations set expires_at = concierge_now() where id = ${old}`;
    });
    assert.deepEqual([await openOf(owner), (await people(user).listMyInvitations({})).invitations], [[], []]);
    assert.equal(await accept(user, old), "INVITATION_NOT_FOUND", "too old");
    assert.equal(await accept(user, await invite(owner, user.email)), "done", "a new one after all that");
  });

  test("inviting tells nothing of the address: accounts, members and nobodies look the same", async () => {
    const owner = await newOwner(system);
    const [member, user] = [await newMember(system, owner), await newVerifiedUser(system)];
    const shapes = new Set<string>();
    for (const email of [member.email, user.email, owner.email, `${crypto.randomUUID()}@example.com`]) {
      const { invitation } = await owner.client.inviteMember({ email, role: MEMBER });
      const { invitationId: _, createdAt: __, expiresAt: ___, ...rest } = invitation!;
      shapes.add(JSON.stringify({ ...rest, email: "" }));
    }
    assert.equal(shapes.size, 1);
    const [own] = (await people(member).listMyInvitations({})).invitations;
    assert.equal(await accept(member, own!.invitationId), "ALREADY_A_MEMBER");
    assert.equal((await openOf(owner)).length, 4, "nothing has changed");
  });

  test("in a suspended organization none is accepted, and in a deleted one there is none", async () => {
    const owner = await newOwner(system);
    const user = await newVerifiedUser(system);
    const invitationId = await invite(owner, user.email);
    const { organizationId } = owner;
    const operator = system.asService(OrganizationInternalService, "operator", "organization");
    await operator.suspendOrganization({ organizationId });
    assert.equal(await accept(user, invitationId), "ORGANIZATION_SUSPENDED");
    const { consistencyToken } = await operator.resumeOrganization({ organizationId });
    await owner.client.deleteOrganization({}, { headers: { "consistency-token": consistencyToken } });
    assert.equal(await accept(user, invitationId), "INVITATION_NOT_FOUND");
  });

  test("they end with the membership of whoever made them, and those for owners with being an owner", async () => {
    const owner = await newOwner(system);
    const second = await newMember(system, owner, OWNER);
    const [ann, bob] = [await newVerifiedUser(system), await newVerifiedUser(system)];
    const forOwner = await invite(second, ann.email, OWNER);
    const forMember = await invite(second, bob.email);
    await owner.client.changeMemberRole({ userId: second.userId, role: ADMIN });
    assert.deepEqual(await openOf(owner), [forMember]);
    assert.equal(await accept(ann, forOwner), "INVITATION_NOT_FOUND");
    await owner.client.removeMember({ userId: second.userId });
    assert.deepEqual(await openOf(owner), []);
    assert.equal(await accept(bob, forMember), "INVITATION_NOT_FOUND");
  });

  test("nobody takes back or replaces one for more than they are themselves", async () => {
    const owner = await newOwner(system);
    const admin = await newMember(system, owner, ADMIN);
    const [ann, bob] = [await newVerifiedUser(system), await newVerifiedUser(system)];
    const forOwner = await invite(owner, ann.email, OWNER);
    const forAdmin = await invite(owner, bob.email, ADMIN);
    const revoke = ({ client }: TestMember, invitationId: string) =>
      answerOf(client.revokeInvitation({ invitationId }));
    assert.equal(await revoke(admin, forOwner), "PERMISSION_MISSING");
    const replaced = admin.client.inviteMember({ email: ann.email.toUpperCase(), role: MEMBER });
    assert.equal(await answerOf(replaced), "PERMISSION_MISSING");
    assert.deepEqual(await openOf(owner), [forAdmin, forOwner]);
    const replacing = await invite(admin, bob.email);
    assert.deepEqual(await openOf(owner), [replacing, forOwner]);
    assert.equal(await revoke(admin, replacing), "done");
    await inDatabase(system, "organization", (sql) => {
      return sql`update invitations set expires_at = concierge_now() where id = ${forOwner}`;
    });
    const inPlaceOfOld = await invite(admin, ann.email);
    assert.deepEqual(await openOf(owner), [inPlaceOfOld]);
  });

  test("100 are open, or made within a day, and no more", async () => {
    const owner = await newOwner(system);
    const { organizationId, userId } = owner;
    await inDatabase(system, "organization", (sql) => {
      return sql`
        insert into invitations (id, organization_id, email, email_key, role, invited_by, created_at, expires_at)
        select gen_random_uuid(), ${organizationId}, n || '@example.com', n || '@example.com', 'member', ${userId},
          concierge_now() - interval '25 hours', concierge_now() + interval '5 days' from generate_series(1, 99) n`;
    });
    const tryOne = (email = `${crypto.randomUUID()}@example.com`) =>
      answerOf(owner.client.inviteMember({ email, role: MEMBER }));
    assert.deepEqual([await tryOne(), await tryOne()], ["done", "TOO_MANY_INVITATIONS"]);
    assert.equal(await tryOne("7@example.com"), "done", "in place of another one");
    await inDatabase(system, "organization", (sql) => {
      return sql`
        update invitations set created_at = concierge_now(), ended_at = concierge_now() where organization_id = ${organizationId}`;
    });
    assert.equal(await tryOne(), "TOO_MANY_INVITATIONS", "made today");
  });
});

test("old ones are deleted, with the addresses", async () => {
  await using database = await openTestDatabase();
  const userId = crypto.randomUUID();
  const organizationId = await database.found(userId);
  const member = { kind: "user", sessionId: "", userId, organizationId } as const;
  const make = async (email: string) =>
    (await inviteMember(database.db, scope, member, { email, role: "member" }, () => {})).id;
  const [old, young] = [await make("old@example.com"), await make("young@example.com")];
  await database.sql`update invitations set created_at = concierge_now() - interval '15 days' where id = ${old}`;
  await sweepInvitations(database.jobDb).run(scope.signal);
  assert.deepEqual(
    (await database.sql`select id from invitations`).map(({ id }) => id),
    [young],
  );
});
