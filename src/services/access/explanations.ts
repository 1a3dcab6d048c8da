/**
 * Explanations: why somebody holds a permission, or does not. Read anew from their owners, and decided by the same function as
 * every check.
 */
import { Code, fail } from "../../errors.ts";
import type { Rights } from "../../rights/rights.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { ADMIN_ROLE } from "./built-in-roles.ts";
import { type Check, decide } from "./checks.ts";
import type { Membership } from "./memberships.ts";
import { allPermissions, permissionsOfMember } from "./permissions.ts";
import { askAccount, askMember, type Facts, organizationRights, platformRights } from "./rights.ts";
import type { AccessContext } from "./service.ts";

/** What gives a permission. */
export interface Source {
  /** Name of the role; empty for a permission without one. */
  role: string;
  builtIn: boolean;
  /** The only branch in which it counts; empty for all. */
  branchId: string;
  /** Empty for a built-in role. */
  assignedBy: string;
  assignedAt: Date | undefined;
}

export type Denial = "not_a_member" | "suspended" | "unknown_permission" | "no_branch" | "other_branch" | "not_granted";

/** The sources of what is held; or why it is not. */
export type Explanation = { allowed: true; sources: Source[] } | { allowed: false; denial: Denial };

/** NOT_FOUND / ORGANIZATION_NOT_FOUND, on the platform USER_NOT_FOUND; for a member who asks, MEMBER_NOT_FOUND. */
export async function explainPermission(access: AccessContext, scope: CallScope, check: Check): Promise<Explanation> {
  if (check.organizationId === "") {
    const { kind, facts } = await askAccount(access, check, onward(scope));
    const builtIn = facts.isAdmin ? { role: ADMIN_ROLE, permissions: allPermissions(facts.products) } : undefined;
    return explain(platformRights(kind, facts), { facts, builtIn, branchIds: [], membershipId: null }, check);
  }
  const { membership, facts } = await askMember(access, check, onward(scope));
  const { role, branchIds, id: membershipId } = membership;
  if (role === null && scope.caller.kind === "user") {
    throw fail(Code.NotFound, "MEMBER_NOT_FOUND", "there is no such member");
  }
  const builtIn = role === null ? undefined : { role, permissions: permissionsOfMember(role, facts.products) };
  return explain(organizationRights(membership, facts), { facts, builtIn, branchIds, membershipId }, check);
}

interface Grounds extends Pick<Membership, "branchIds"> {
  /** Null on the platform. */
  membershipId: string | null;
  facts: Facts;
  /** The built-in role that gives permissions. */
  builtIn: { role: string; permissions: string[] } | undefined;
}

/** Why these rights, which come from those grounds, answer the question as they do. */
export function explain(rights: Rights, grounds: Grounds, check: Check): Explanation {
  if (!decide(rights, check)) return { allowed: false, denial: denialOf(rights, grounds, check) };
  const { permission, branchId } = check;
  const { facts, builtIn } = grounds;
  const given = facts.gifts
    .filter((gift) => gift.membershipId === grounds.membershipId)
    .filter((gift) => gift.permissions.includes(permission))
    .filter((gift) => gift.branchId === null || gift.branchId === branchId)
    .map(({ role, branchId: onlyBranch, assignedBy, assignedAt }) => ({
      ...{ role: role ?? "", builtIn: false, branchId: onlyBranch ?? "", assignedBy },
      assignedAt: new Date(assignedAt),
    }));
  if (!builtIn?.permissions.includes(permission)) return { allowed: true, sources: given };
  const own = { role: builtIn.role, builtIn: true, branchId: "", assignedBy: "", assignedAt: undefined };
  return { allowed: true, sources: [own, ...given] };
}

function denialOf(rights: Rights, { facts, branchIds }: Grounds, { permission, branchId }: Check): Denial {
  if (rights.standing === "none") return "not_a_member";
  if (rights.standing === "suspended") return "suspended";
  if (!allPermissions(facts.products).includes(permission)) return "unknown_permission";
  if (branchId !== "" && !branchIds.includes(branchId)) return "no_branch";
  const isElsewhere =
    rights.permissions.has(permission) || [...rights.branches.values()].some((held) => held.has(permission));
  return isElsewhere ? "other_branch" : "not_granted";
}
