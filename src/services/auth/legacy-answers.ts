/**
 * What the contract of before (auth.AuthService) asks of members and organizations. Its ids are plain strings: one that is no id
 * belongs to nobody. What nobody can tell is UNAVAILABLE / AUTH_STALE, never an empty list.
 */
import { ConnectError } from "@connectrpc/connect";
import { validate as isUuid } from "uuid";
import { type Organization, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { Code, fail } from "../../errors.ts";
import type { Rights, Subject } from "../../rights/rights.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { rightsIn } from "./active-organizations.ts";
import type { AuthContext } from "./service.ts";

export interface LegacyOrganization extends Pick<Organization, "name" | "plan" | "modulesEnabled"> {
  id: string;
  status: "active" | "suspended";
}

const QUESTION_TIMEOUT_MS = 1_000;

/** The rights of a member, maybe of a suspended organization. NOT_FOUND / USER_NOT_FOUND or ORGANIZATION_NOT_FOUND. */
export async function rightsOfMember(
  auth: Pick<AuthContext, "rights">,
  { wanted }: CallScope,
  { userId, organizationId }: Subject,
): Promise<Rights> {
  if (!isUuid(organizationId)) throw organizationNotFound();
  if (!isUuid(userId)) throw userNotFound();
  const subject = { userId: userId.toLowerCase(), organizationId: organizationId.toLowerCase() };
  const found = await rightsIn(auth, subject, wanted);
  if (!found) throw organizationNotFound();
  if (found.rights.standing === "none") throw userNotFound();
  return found.rights;
}

/** One that is not deleted. NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function getOrganization(
  { clients }: Pick<AuthContext, "clients">,
  scope: CallScope,
  id: string,
): Promise<LegacyOrganization> {
  if (!isUuid(id)) throw organizationNotFound();
  const signal = AbortSignal.any([scope.signal, AbortSignal.timeout(QUESTION_TIMEOUT_MS)]);
  const { organization } = await clients.organization
    .getOrganization({ organizationId: id }, { ...onward(scope), signal })
    .catch((cause: unknown) => {
      throw ConnectError.from(cause).code === Code.NotFound ? organizationNotFound() : organizationStale(cause);
    });
  const { organizationId, name, plan, modulesEnabled, status } = organization!;
  return { id: organizationId, name, plan, modulesEnabled, status: statusOf(status) };
}

function statusOf(status: OrganizationStatus): LegacyOrganization["status"] {
  switch (status) {
    case OrganizationStatus.ACTIVE:
      return "active";
    case OrganizationStatus.SUSPENDED:
      return "suspended";
    default:
      throw organizationNotFound();
  }
}

function organizationNotFound() {
  return fail(Code.NotFound, "ORGANIZATION_NOT_FOUND", "there is no such organization");
}

function userNotFound() {
  return fail(Code.NotFound, "USER_NOT_FOUND", "the organization has no such member");
}

function organizationStale(cause: unknown) {
  const message = "the organization could not be looked up";
  return fail(Code.Unavailable, "AUTH_STALE", message, { cause, retryAfterMs: 1_000 });
}
