/** What changes who may act where, for tests of those who hear of it. What changes something returns its consistency token. */
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { verifyAddress } from "./organizations.ts";
import type { TestSystem, TestUser } from "./system.ts";

/** Makes one; returns its id. */
export async function makeOrganization(system: TestSystem, owner: TestUser): Promise<string> {
  const request = { name: "Bakery", slug: `bakery-${crypto.randomUUID()}` };
  const { organization } = await system.asUser(OrganizationService, owner.accessToken).createOrganization(request);
  return organization!.organizationId;
}

/** Whose organization is changed. */
interface Owned {
  system: TestSystem;
  owner: TestUser;
  organizationId: string;
}

function asOwner({ system, owner, organizationId }: Owned) {
  return system.asMember(OrganizationService, owner, organizationId);
}

export async function addMember(owned: Owned, { userId, email, accessToken }: TestUser): Promise<string> {
  const { system } = owned;
  await verifyAddress(system, userId);
  const { invitation } = await asOwner(owned).inviteMember({ email, role: MemberRole.MEMBER });
  const { invitationId } = invitation!;
  const accepted = await system.asUser(OrganizationService, accessToken).acceptInvitation({ invitationId });
  return accepted.consistencyToken;
}

export async function removeMember(owned: Owned, { userId }: TestUser): Promise<string> {
  return (await asOwner(owned).removeMember({ userId })).consistencyToken;
}

export async function suspend({ system, organizationId }: Owned): Promise<string> {
  const operator = system.asService(OrganizationInternalService, "operator", "organization");
  return (await operator.suspendOrganization({ organizationId })).consistencyToken;
}

export async function resume({ system, organizationId }: Owned): Promise<string> {
  const operator = system.asService(OrganizationInternalService, "operator", "organization");
  return (await operator.resumeOrganization({ organizationId })).consistencyToken;
}

/** Returns the id of the branch, too. */
export async function openBranch(owned: Owned): Promise<{ branchId: string; consistencyToken: string }> {
  const { branch, consistencyToken } = await asOwner(owned).createBranch({ name: "Main street" });
  return { branchId: branch!.branchId, consistencyToken };
}

export async function deleteOrganization(owned: Owned): Promise<void> {
  await asOwner(owned).deleteOrganization({});
}
