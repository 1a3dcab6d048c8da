/** What members of an organization see and change of each other's profiles (C28). */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { reasonOf } from "../../errors.ts";
import { verifyAddress } from "../../testing/organizations.ts";
import { refusalOf } from "../../testing/refusals.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";

const NOT_FOUND = "NotFound USER_NOT_FOUND";

describe("profiles of colleagues", () => {
  let system: TestSystem;
  let organizationId: string;
  let owner: TestUser;
  let member: TestUser;
  let stranger: TestUser;

  before(async () => {
    system = await startTestSystem();
    [owner, member, stranger] = [await system.newUser(), await system.newUser(), await system.newUser()];
    const organizations = system.asUser(OrganizationService, owner.accessToken);
    const made = await organizations.createOrganization({ name: "Bakery", slug: `s-${crypto.randomUUID()}` });
    organizationId = made.organization!.organizationId;
    await join(member);
  });

  after(() => system[Symbol.asyncDispose]());

  async function join(person: TestUser, role: MemberRole = MemberRole.MEMBER): Promise<void> {
    await verifyAddress(system, person.userId);
    const owners = system.asMember(OrganizationService, owner, organizationId);
    const { invitation } = await owners.inviteMember({ email: person.email, role });
    const { invitationId } = invitation!;
    await system.asUser(OrganizationService, person.accessToken).acceptInvitation({ invitationId });
  }

  const people = (user: TestUser) => system.asMember(UserService, user, organizationId);
  const rename = (user: TestUser, userId: string, firstName = "Zoë") =>
    people(user).updateUser({ userId, firstName, updateMask: { paths: ["first_name"] } });

  test("C28 who holds profiles:read sees a member, and who holds profiles:update changes names and language", async () => {
    const { user } = await people(owner).getUser({ userId: member.userId.toUpperCase() });
    assert.deepEqual([user?.userId, user?.email], [member.userId, member.email]);
    assert.equal((await rename(owner, member.userId)).user?.firstName, "Zoë");
    assert.equal((await system.asUser(UserService, member.accessToken).getMe({})).user?.firstName, "Zoë");
  });

  test("C28 nobody else is there: without permission, for strangers, outside of the organization, and as anybody unknown", async () => {
    const unknown = crypto.randomUUID();
    const elsewhere = system.asUser(UserService, owner.accessToken);
    const cases = {
      "a member lacks the permission": [people(member), owner.userId],
      "a stranger is no member of what the token names": [people(stranger), member.userId],
      "the target is no member": [people(owner), stranger.userId],
      "the target is nobody": [people(owner), unknown],
      "the caller acts in no organization": [elsewhere, member.userId],
    } as const;
    for (const [name, [client, userId]] of Object.entries(cases)) {
      assert.equal(await refusalOf(client.getUser({ userId })), NOT_FOUND, name);
      const change = { userId, firstName: "Eve", updateMask: { paths: ["first_name"] } };
      assert.equal(await refusalOf(client.updateUser(change)), NOT_FOUND, name);
    }
    assert.equal((await people(stranger).getMe({})).user?.firstName, "Ann");
  });

  test("C28 nobody changes the profile of a colleague who is more than they are", async () => {
    const [admin, other, renamer] = [await system.newUser(), await system.newUser(), await system.newUser()];
    await join(admin, MemberRole.ADMIN);
    await join(other, MemberRole.ADMIN);
    await join(renamer);
    const roles = system.asMember(AccessService, owner, organizationId);
    await roles.createRole({ name: "renamer", permissions: ["profiles:read", "profiles:update"] });
    const { consistencyToken } = await roles.assignRole({ userId: renamer.userId, role: "renamer" });
    const headers = { "consistency-token": consistencyToken };
    assert.equal((await people(renamer).getUser({ userId: owner.userId }, { headers })).user?.userId, owner.userId);
    const refused = [
      [admin, owner],
      [renamer, owner],
      [renamer, admin],
    ] as const;
    for (const [by, { userId }] of refused) assert.equal(await refusalOf(rename(by, userId, "Eve")), NOT_FOUND);
    const allowed = [
      [owner, admin],
      [admin, other],
      [admin, renamer],
      [renamer, member],
    ] as const;
    for (const [by, { userId }] of allowed) assert.equal((await rename(by, userId)).user?.firstName, "Zoë");
  });

  test("S-TEN-07 whose profile it is cannot be changed", async () => {
    const change = { userId: member.userId, firstName: "Eve", updateMask: { paths: ["first_name", "user_id"] } };
    assert.equal(await refusalOf(people(owner).updateUser(change)), "InvalidArgument INVALID_FIELD_MASK");
  });

  test("C28 it ends with the suspension of the organization and with the membership", async () => {
    const leaver = await system.newUser();
    await join(leaver);
    const operator = system.asService(OrganizationInternalService, "operator", "organization");
    const isHidden = () =>
      people(owner)
        .getUser({ userId: leaver.userId })
        .then(
          () => false,
          (error: unknown) => reasonOf(error) === "USER_NOT_FOUND",
        );
    await operator.suspendOrganization({ organizationId });
    await until("the suspension to be known", isHidden);
    assert.equal(await refusalOf(rename(owner, leaver.userId)), NOT_FOUND);
    await operator.resumeOrganization({ organizationId });
    await until("its end to be known", async () => !(await isHidden()));
    await system.asUser(OrganizationService, leaver.accessToken).leaveOrganization({ organizationId });
    await until("the membership's end to be known", isHidden);
    assert.equal(await refusalOf(rename(owner, leaver.userId)), NOT_FOUND);
  });
});
