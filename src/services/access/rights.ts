/**
 * Rights, decided here and nowhere else: what somebody's membership, roles and permissions give in one organization. What the person is
 * to the organization is asked of organization itself, so nothing here can be older than it is there.
 */
import { MemberRole, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { mergeRevisions, revision } from "../../rights/revisions.ts";
import { noRights, type Rights, type Subject, setOf } from "../../rights/rights.ts";
import { permissionsOfMember } from "./permissions.ts";
import type { AccessContext } from "./service.ts";

/** NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function loadRights(
  { clients }: Pick<AccessContext, "clients">,
  { organizationId, userId }: Subject,
  signal: AbortSignal,
): Promise<Rights> {
  const membership = await clients.organization.getMembership({ organizationId, userId }, { signal });
  const revisions = mergeRevisions(revision("organization", organizationId, membership.revision));
  const role = memberRole(membership.role);
  if (!role) return noRights("none", revisions);
  if (membership.status !== OrganizationStatus.ACTIVE) return noRights("suspended", revisions);
  return {
    standing: "active",
    roles: [role],
    permissions: setOf(permissionsOfMember(role, [])),
    branches: new Map(role === "member" ? [] : membership.branchIds.map((id) => [id, new Set<string>()])),
    revisions,
  };
}

/** Undefined for who is no member. One that this version does not know is a fault: its rights are not known either. */
function memberRole(role: MemberRole): "member" | "admin" | "owner" | undefined {
  switch (role) {
    case MemberRole.UNSPECIFIED:
      return undefined;
    case MemberRole.MEMBER:
      return "member";
    case MemberRole.ADMIN:
      return "admin";
    case MemberRole.OWNER:
      return "owner";
    default:
      throw new Error("organization told of an unknown sort of member");
  }
}
