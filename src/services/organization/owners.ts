/**
 * Owners that operators make: of an organization that has lost its owners, or whose owners cannot log in any more.
 */
import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import { ofOrganization, withinScope } from "../../db/tenants.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { lockPerson } from "./accounts.ts";
import { changeWithin, type Organization, roleOf, type Stored } from "./changes.ts";
import { memberChanged } from "./events.ts";
import { memberships } from "./schema.ts";
import type { OrganizationContext } from "./service.ts";

/**
 * Makes anybody who has an account an owner, also of a suspended organization. NOT_FOUND / ORGANIZATION_NOT_FOUND or
 * ACCOUNT_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE.
 */
export async function setOwner(
  context: OrganizationContext,
  scope: CallScope,
  asked: { organizationId: string; userId: string },
): Promise<Stored<void>> {
  const organizationId = asked.organizationId.toLowerCase();
  const userId = asked.userId.toLowerCase();
  await requireAccount(context, scope, userId);
  const change = async (tx: Tx) => {
    if ((await roleOf(tx, organizationId, userId)) === "owner") return { result: undefined, events: [] };
    const owner = { organizationId, userId, role: "owner" } as const;
    const { role } = owner;
    await tx
      .insert(memberships)
      .values(owner)
      .onConflictDoUpdate({ target: [memberships.organizationId, memberships.userId], set: { role } });
    return { result: undefined, events: [memberChanged(owner)] };
  };
  const work = async (tx: Tx) => {
    await lockPerson(tx, userId, accountNotFound);
    return changeWithin(tx, organizationId, change);
  };
  return withinScope(context.db, { organizationId, userId }, work, scope);
}

/** FAILED_PRECONDITION / NO_OWNER. Of an organization that is locked. */
export async function requireOwner(tx: Tx, { id }: Organization): Promise<void> {
  const isOwner = and(
    ofOrganization("memberships.owner", memberships.organizationId, id),
    eq(memberships.role, "owner"),
  );
  const [owner] = await tx.select({ userId: memberships.userId }).from(memberships).where(isOwner).limit(1);
  if (!owner) throw fail(Code.FailedPrecondition, "NO_OWNER", "the organization has no owner: set one first");
}

async function requireAccount({ clients }: OrganizationContext, scope: CallScope, userId: string): Promise<void> {
  try {
    await clients.auth.getAccount({ userId }, onward(scope));
  } catch (error) {
    throw reasonOf(error) === "ACCOUNT_NOT_FOUND" ? accountNotFound() : error;
  }
}

function accountNotFound() {
  return fail(Code.NotFound, "ACCOUNT_NOT_FOUND", "there is no such account");
}
