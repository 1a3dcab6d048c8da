/** Two organizations with everything that has an id, for tests of what one must not see of the other. */
import { AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { connect } from "../db/connection.ts";
import type { TestSystem, TestUser } from "./system.ts";

export interface TestOrganization {
  organizationId: string;
  owner: TestUser;
  /** Has the role "cashier", and nothing else beyond a member's. */
  member: TestUser;
  branchId: string;
  /** Of an open invitation to `invited`, whose address is verified. */
  invitationId: string;
  invited: TestUser;
}

/** Makes one. The role "cashier" holds the permission branches:create. */
export async function newOrganization(system: TestSystem, name: string): Promise<TestOrganization> {
  const [owner, member, invited] = [await system.newUser(), await system.newUser(), await system.newUser()];
  await Promise.all([member, invited].map(({ userId }) => verifyAddress(system, userId)));
  const slug = `${name}-${crypto.randomUUID()}`;
  const made = await system.asUser(OrganizationService, owner.accessToken).createOrganization({ name, slug });
  const { organizationId } = made.organization!;
  const asOwner = system.asMember(OrganizationService, owner, organizationId);
  const invite = async ({ email }: TestUser) =>
    (await asOwner.inviteMember({ email, role: MemberRole.MEMBER })).invitation!.invitationId;
  const { consistencyToken } = await system
    .asUser(OrganizationService, member.accessToken)
    .acceptInvitation({ invitationId: await invite(member) });
  const { branch } = await asOwner.createBranch({ name: "Main street" });
  const access = system.asMember(AccessService, owner, organizationId);
  await access.createRole({ name: "cashier", permissions: ["branches:create"] });
  const headers = { "consistency-token": consistencyToken };
  await access.assignRole({ userId: member.userId, role: "cashier" }, { headers });
  const invitationId = await invite(invited);
  return { organizationId, owner, member, branchId: branch!.branchId, invitationId, invited };
}

/** As if the link in the mail had been followed. */
export async function verifyAddress(system: TestSystem, userId: string): Promise<void> {
  const sql = connect(system.database("auth").ownerUrl, { applicationName: "concierge-test" });
  await sql`update accounts set email_verified_at = concierge_now() where id = ${userId}`;
  await sql.end({ timeout: 1 });
}
