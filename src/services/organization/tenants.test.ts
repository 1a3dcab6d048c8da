/**
 * The second line: whichever query forgets its organization, the policies of the tables show and change nothing of
 * another one.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { usedPredicates, withoutPredicate } from "../../db/tenants.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { inDatabase, inOrganization, newMember, newOwner, newSlug, newVerifiedUser } from "./testing.ts";

const { MEMBER, ADMIN } = MemberRole;
/** Of jobs, which see the rows of all organizations, and of access. */
const isOfCalls = (name: string) => /^(organizations|memberships|members|invitations|branches)\./.test(name);

describe("queries that forget their organization", () => {
  let system: TestSystem;
  let owner: TestUser;
  let joining: TestUser;
  let declining: TestUser;

  before(async () => {
    system = await startTestSystem();
    [owner, joining, declining] = [
      await system.newUser(),
      await newVerifiedUser(system),
      await newVerifiedUser(system),
    ];
    const other = await newOwner(system, "Foreign");
    await newMember(system, other, ADMIN);
    await other.client.inviteMember({ email: joining.email, role: MEMBER });
    await other.client.createBranch({ name: "Foreign" });
    await other.client.createBranch({ name: "Main street" });
  });

  after(() => system[Symbol.asyncDispose]());

  /** All that there is of organizations that are not deleted. */
  const everything = () =>
    inDatabase(system, "organization", async (sql) => [
      ...(await sql`select * from organizations where status <> 'deleted' order by id`),
      ...(await sql`select * from memberships order by 1, 2`),
      ...(await sql`select * from invitations order by id`),
      ...(await sql`select * from branches order by id`),
    ]);

  /** Everything that can be done in an organization, from its beginning to its end; what was seen in it. */
  const liveThrough = async () => {
    const mine = system.asUser(OrganizationService, owner.accessToken);
    const { organization } = await mine.createOrganization({ name: "Own", slug: newSlug() });
    const { organizationId } = organization!;
    const { client } = inOrganization(system, owner, organizationId);
    const invite = async ({ email }: TestUser) =>
      (await client.inviteMember({ email, role: MEMBER })).invitation!.invitationId;
    const invitations = [await invite(declining), await invite(declining), await invite(joining)];
    await system
      .asUser(OrganizationService, declining.accessToken)
      .declineInvitation({ invitationId: invitations[1]! });
    const joiningClient = system.asUser(OrganizationService, joining.accessToken);
    await joiningClient.acceptInvitation({ invitationId: invitations[2]! });
    await client.revokeInvitation({ invitationId: await invite(declining) });
    await invite(declining);
    const { branch } = await client.createBranch({ name: "Main street" });
    const { branchId } = branch!;
    await client.renameBranch({ branchId, name: "Side street" });
    const { userId } = joining;
    await client.changeMemberRole({ userId, role: ADMIN });
    const internal = system.asService(OrganizationInternalService, "operator", "organization");
    const seen = {
      own: (await client.getMyOrganization({})).organization?.organizationId,
      same: (await internal.getOrganization({ organizationId })).organization?.organizationId,
      members: (await client.listMembers({})).members.map((member) => member.userId).sort(),
      invited: (await client.listInvitations({})).invitations.map(({ email }) => email),
      branches: (await client.listBranches({ includeClosed: true })).branches.map((each) => each.name),
      standing: (await internal.getMembership({ organizationId, userId })).branchIds,
      filtered: Object.keys((await internal.filterMembers({ organizationId, userIds: [userId] })).members),
    };
    assert.deepEqual(seen, {
      own: organizationId,
      same: organizationId,
      members: [owner.userId, userId].sort(),
      invited: [declining.email],
      branches: ["Side street"],
      standing: [branchId],
      filtered: [userId],
    });
    await client.closeBranch({ branchId });
    await client.updateOrganization({ name: "Renamed", updateMask: { paths: ["name"] } });
    await client.transferOwnership({ userId });
    await joiningClient.leaveOrganization({ organizationId }).catch(() => {});
    const successor = inOrganization(system, joining, organizationId).client;
    await successor.removeMember({ userId: owner.userId });
    await successor.deleteOrganization({});
  };

  test("S-TEN-17 all of them left out, no foreign row is seen or changed, and without the policies it would be", async () => {
    const before = await everything();
    await liveThrough();
    assert.deepEqual(await everything(), before);
    const names = usedPredicates().filter(isOfCalls);
    assert.ok(names.length > 20, names.join());
    using leftOut = new DisposableStack();
    for (const name of names) leftOut.use(withoutPredicate(name));
    await liveThrough();
    assert.deepEqual(await everything(), before);

    await inDatabase(system, "organization", async (sql) => {
      for (const table of ["organizations", "memberships", "invitations", "branches"]) {
        await sql.unsafe(`alter table ${table} disable row level security`);
      }
    });
    await assert.rejects(liveThrough());
    assert.notDeepEqual(await everything(), before);
  });
});
