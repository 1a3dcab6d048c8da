/**
 * Authors: who changes roles, and who gives and takes them. Members of an organization give and take only what they hold themselves, so
 * nobody gets more by it; backends, operators and what they make are trusted.
 */
import type { Tx } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { permissionMissing } from "../../rights/require-permission.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { askMembership, type Membership } from "./memberships.ts";
import { organizationRights, readFacts } from "./rights.ts";
import type { AccessContext } from "./service.ts";

export interface Author {
  /** UUID of an account, or name of a backend or operator. */
  name: string;
  /** Of a member, as it was just before. */
  membership?: Membership;
}

/** Where something counts: in an organization, or in one branch of it. */
interface Place {
  organizationId: string;
  /** Empty for all branches. */
  branchId?: string;
}

/** The caller as an author in an organization. NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function authorOf(access: AccessContext, scope: CallScope, organizationId: string): Promise<Author> {
  const { caller } = scope;
  if (caller.kind === "anonymous") throw new Error("a method for known callers was reached by somebody else");
  if (caller.kind !== "user") return { name: caller.name };
  const subject = { userId: caller.userId, organizationId };
  return { name: caller.userId, membership: await askMembership(access, subject, onward(scope)) };
}

/**
 * Refuses an author who lacks one of these permissions there, by what was given to them until now. PERMISSION_DENIED /
 * PERMISSION_NOT_HELD, or PERMISSION_MISSING for who is no member of an active organization any more.
 */
export async function requireHeld(
  tx: Tx,
  { name: userId, membership }: Author,
  { organizationId, branchId = "" }: Place,
  permissions: readonly string[],
): Promise<void> {
  if (!membership) return;
  const rights = organizationRights(membership, await readFacts(tx, { userId, organizationId }));
  if (rights.standing !== "active") throw permissionMissing();
  // Not holds(): what is held everywhere can also be taken in a branch that is closed.
  const isHeld = (name: string) => rights.permissions.has(name) || rights.branches.get(branchId)?.has(name);
  if (permissions.every(isHeld)) return;
  throw permissionNotHeld();
}

export function permissionNotHeld() {
  return fail(Code.PermissionDenied, "PERMISSION_NOT_HELD", "this takes permissions that you do not have there");
}
