/** The decision that guards a call: does whoever sent this token hold a permission in the organization that the token names? */
import { ConnectError } from "@connectrpc/connect";
import { Code, fail } from "../errors.ts";
import type { AccessClaims } from "../token/access-token.ts";
import { holds } from "./rights.ts";
import type { RightsQuestion, RightsWatch } from "./rights-watch.ts";

/** What it takes. */
export interface RequiredPermission {
  permission: string;
  /** In this branch (UUID); in the whole organization unless told. */
  branchId?: string;
}

/**
 * Refuses a person who lacks the permission: PERMISSION_DENIED / NO_ORGANIZATION or PERMISSION_MISSING, UNAVAILABLE / AUTH_STALE,
 * INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN. The token's word is only where to look.
 */
export async function requirePermission(
  watch: Pick<RightsWatch, "rightsOf">,
  { userId, organizationId }: Pick<AccessClaims, "userId" | "organizationId">,
  { permission, branchId }: RequiredPermission,
  question: RightsQuestion,
): Promise<void> {
  if (organizationId === undefined) throw noOrganization();
  const found = watch.rightsOf({ userId, organizationId }, question);
  const { rights } = found instanceof Promise ? await found.catch(nobody) : found;
  if (!rights || !holds(rights, permission, branchId)) throw permissionMissing();
}

/** In an organization that does not exist nobody holds anything. */
function nobody(error: unknown): { rights: undefined } {
  if (ConnectError.from(error).code !== Code.NotFound) throw error;
  return { rights: undefined };
}

/** The refusal of a person whose token names no organization. */
export function noOrganization(): ConnectError {
  return fail(Code.PermissionDenied, "NO_ORGANIZATION", "choose an organization first: refresh with its id");
}

/** The refusal of a person who may not do this. */
export function permissionMissing(): ConnectError {
  return fail(Code.PermissionDenied, "PERMISSION_MISSING", "this takes a permission that you do not have here");
}
