/**
 * Memberships, which are organization's: what somebody is there is asked whenever it matters. What is given names the membership
 * for which it counts, so it ends with that, whatever comes when.
 */
import type { CallOptions } from "@connectrpc/connect";
import { MemberRole, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { type Revisions, revision } from "../../rights/revisions.ts";
import type { Subject } from "../../rights/rights.ts";
import type { AccessContext } from "./service.ts";

/** What somebody is in an organization. */
export interface Membership {
  /** Null for somebody who is no member. */
  role: "member" | "admin" | "owner" | null;
  /** UUID; whoever leaves and comes back has another one. Empty for somebody who is no member. */
  id: string;
  /** Whether the organization may be used. */
  isActive: boolean;
  /** The organization's open branches. */
  branchIds: readonly string[];
  /** Of organization, when this was so. */
  revisions: Revisions;
}

/** NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function askMembership(
  { clients }: Pick<AccessContext, "clients">,
  { organizationId, userId }: Subject,
  call: CallOptions,
): Promise<Membership> {
  const answer = await clients.organization.getMembership({ organizationId, userId }, call).catch(translateRefusal);
  const { role, status, branchIds, membershipId: id } = answer;
  const revisions = revision("organization", organizationId, answer.revision);
  return { role: memberRole(role), id, isActive: status === OrganizationStatus.ACTIVE, branchIds, revisions };
}

/** Tells the caller in our own words what organization refused. */
export function translateRefusal(error: unknown): never {
  switch (reasonOf(error)) {
    case "ORGANIZATION_NOT_FOUND":
      throw fail(Code.NotFound, "ORGANIZATION_NOT_FOUND", "there is no such organization");
    case "INVALID_PAGE_TOKEN":
      throw fail(Code.InvalidArgument, "INVALID_PAGE_TOKEN", "the page token is not one that this list gave");
    default:
      throw error;
  }
}

/** One that this version does not know is a fault: its rights are not known either. */
function memberRole(role: MemberRole): Membership["role"] {
  switch (role) {
    case MemberRole.UNSPECIFIED:
      return null;
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
