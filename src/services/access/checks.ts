/**
 * Checks: whether somebody holds a permission, decided from the rights that are kept in memory, as every service decides it. What they want
 * to be known is waited for.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { NO_REVISIONS } from "../../rights/revisions.ts";
import { holds, noRights, type Rights, type Subject } from "../../rights/rights.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { userNotFound } from "./accounts.ts";
import type { AccessContext } from "./service.ts";

/** A question. Ids in lower case. */
export interface Check extends Subject {
  permission: string;
  /** Empty for the whole organization. */
  branchId: string;
}

/** What was decided of one of many. */
export interface CheckResult {
  allowed: boolean;
  /** The organization does not exist, or the user is no member of it. */
  notFound: boolean;
}

/** What somebody may do. NOT_FOUND / ORGANIZATION_NOT_FOUND, on the platform USER_NOT_FOUND. UNAVAILABLE / AUTH_STALE. */
export async function getRights(access: AccessContext, scope: CallScope, subject: Subject): Promise<Rights> {
  return (await getFreshRights(access, scope, subject)).rights;
}

/** The same, with how old it may be, in milliseconds. */
export async function getFreshRights(
  { rights: watch, clock }: AccessContext,
  { wanted }: CallScope,
  subject: Subject,
): Promise<{ rights: Rights; ageMs: number }> {
  const { rights, freshAt } = await watch.rightsOf(subject, { wanted });
  return { rights, ageMs: clock.monotonic() - freshAt };
}

/** What a person may do in the organization that the token names: nothing, if there is none such. */
export async function getOwnRights(
  access: AccessContext,
  scope: CallScope,
  { userId, organizationId }: Person,
): Promise<{ organizationId: string; rights: Rights }> {
  const nothing = { organizationId: "", rights: noRights("none", NO_REVISIONS) };
  if (organizationId === undefined) return nothing;
  const rights = await getRights(access, scope, { userId, organizationId }).catch(ifNotFound(nothing.rights));
  return rights.standing === "none" ? nothing : { organizationId, rights };
}

/** NOT_FOUND / ORGANIZATION_NOT_FOUND or USER_NOT_FOUND, UNAVAILABLE / AUTH_STALE. */
export async function checkPermission(access: AccessContext, scope: CallScope, check: Check): Promise<boolean> {
  const rights = await getRights(access, scope, check);
  if (rights.standing === "none") throw userNotFound();
  return decide(rights, check);
}

/** One result for each check, in their order; everybody's rights are asked for once. UNAVAILABLE / AUTH_STALE. */
export async function checkPermissions(
  access: AccessContext,
  scope: CallScope,
  checks: Check[],
): Promise<CheckResult[]> {
  const asked = new Map<string, Promise<Rights>>();
  const rightsOf = ({ userId, organizationId }: Check): Promise<Rights> => {
    const name = `${organizationId}/${userId}`;
    const known = asked.get(name);
    if (known) return known;
    const nothing = noRights("none", NO_REVISIONS);
    const rights = getRights(access, scope, { userId, organizationId }).catch(ifNotFound(nothing));
    asked.set(name, rights);
    return rights;
  };
  return Promise.all(
    checks.map(async (check) => {
      const rights = await rightsOf(check);
      return { allowed: decide(rights, check), notFound: rights.standing === "none" };
    }),
  );
}

/** Whether rights answer a question with yes. */
export function decide(rights: Rights, { permission, branchId }: Pick<Check, "permission" | "branchId">): boolean {
  return holds(rights, permission, branchId === "" ? undefined : branchId);
}

function ifNotFound(rights: Rights): (error: unknown) => Rights {
  return (error) => {
    if (ConnectError.from(error).code !== Code.NotFound) throw error;
    return rights;
  };
}
