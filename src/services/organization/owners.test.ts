/** Owners that operators make, of organizations that have lost theirs. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationInternalService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { answerOf, inDatabase, inOrganization, newMember, newOwner, toldOf } from "./testing.ts";

describe("owners made by operators", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const operator = () => system.asService(OrganizationInternalService, "operator", "organization");

  test("an organization without an owner is resumed only once it has got one", async () => {
    const owner = await newOwner(system);
    const member = await newMember(system, owner);
    const { organizationId } = owner;
    await operator().suspendOrganization({ organizationId });
    await inDatabase(system, "organization", (sql) => {
      return sql`delete from memberships where organization_id = ${organizationId} and role = 'owner'`;
    });
    assert.equal(await answerOf(operator().resumeOrganization({ organizationId })), "NO_OWNER");
    assert.equal(await answerOf(member.client.listMembers({})), "PERMISSION_MISSING");
    await operator().setOwner({ organizationId, userId: member.userId.toUpperCase() });
    const { consistencyToken } = await operator().resumeOrganization({ organizationId });
    const headers = { "consistency-token": consistencyToken };
    const { members } = await member.client.listMembers({}, { headers });
    assert.deepEqual(
      members.map(({ userId, role }) => [userId, role]),
      [[member.userId, MemberRole.OWNER]],
    );
  });

  test("anybody with an account becomes an owner, is told of once, and nobody else does", async () => {
    const owner = await newOwner(system);
    const [stranger, deleted] = [await system.newUser(), await system.newUser()];
    await system.asUser(AuthService, deleted.accessToken).deleteMyAccount({ currentPassword: deleted.password });
    const { organizationId } = owner;
    const told = () => inDatabase(system, "organization", (sql) => toldOf(sql, organizationId));
    const before = (await told()).length;
    for (const userId of [deleted.userId, crypto.randomUUID()]) {
      assert.equal(await answerOf(operator().setOwner({ organizationId, userId })), "ACCOUNT_NOT_FOUND");
    }
    const { userId } = stranger;
    const nowhere = operator().setOwner({ organizationId: crypto.randomUUID(), userId });
    assert.equal(await answerOf(nowhere), "ORGANIZATION_NOT_FOUND");
    assert.equal((await told()).length, before);

    const answers = [
      await operator().setOwner({ organizationId, userId }),
      await operator().setOwner({ organizationId, userId }),
    ];
    assert.deepEqual((await told()).slice(before), ["MemberChanged"]);
    const headers = { "consistency-token": answers[1]!.consistencyToken };
    const { client } = inOrganization(system, stranger, organizationId);
    assert.equal(await answerOf(client.removeMember({ userId: owner.userId }, { headers })), "done");
  });

  test("backends make no owners", async () => {
    const { organizationId, userId } = await newOwner(system);
    const backend = system.asService(OrganizationInternalService, "backend", "organization");
    assert.equal(await answerOf(backend.setOwner({ organizationId, userId })), "CALLER_NOT_ALLOWED");
  });
});
