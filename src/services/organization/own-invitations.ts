/**
 * Invitations as those see them who are invited. Whose an invitation is, is decided by the address alone: that of the
 * caller's account, which auth tells, and only once its owner has proven to have it.
 */
import { and, desc, eq } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import { forPerson, withinScope } from "../../db/tenants.ts";
import { emailKeyOf } from "../../emails.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { type CallScope, onward, type Person } from "../../rpc/call.ts";
import { lockPerson } from "./accounts.ts";
import { changeWithin, type Organization, type Stored } from "./changes.ts";
import { memberChanged } from "./events.ts";
import { endOne, type Invitation, invitationNotFound, isOpen } from "./invitations.ts";
import { invitations, memberships, organizations } from "./schema.ts";
import type { OrganizationContext } from "./service.ts";

export interface OwnInvitation {
  invitation: Invitation;
  organizationName: string;
}

const MOST_LISTED = 100;

/** Newest first; none while the address is not verified. UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function listOwnInvitations(
  context: OrganizationContext,
  scope: CallScope,
  { userId }: Pick<Person, "userId">,
): Promise<OwnInvitation[]> {
  const emailKey = await verifiedEmailKeyOf(context, scope, userId);
  if (emailKey === undefined) return [];
  const find = (tx: Tx) =>
    tx
      .select({ invitation: invitations, organizationName: organizations.name })
      .from(invitations)
      .innerJoin(organizations, eq(organizations.id, invitations.organizationId))
      .where(and(eq(invitations.emailKey, emailKey), isOpen))
      .orderBy(desc(invitations.id))
      .limit(MOST_LISTED);
  return forPerson(context.db, { userId, emailKey }, find, scope);
}

/**
 * Makes the caller a member. NOT_FOUND / INVITATION_NOT_FOUND, FAILED_PRECONDITION / EMAIL_NOT_VERIFIED or
 * ORGANIZATION_SUSPENDED, ALREADY_EXISTS / ALREADY_A_MEMBER, UNAVAILABLE / DEPENDENCY_UNAVAILABLE.
 */
export async function acceptInvitation(
  context: OrganizationContext,
  scope: CallScope,
  { userId }: Pick<Person, "userId">,
  id: string,
): Promise<Stored<Organization>> {
  const organizationId = await requireOwn(context, scope, userId, id);
  const join = async (tx: Tx, organization: Organization) => {
    if (organization.status !== "active") {
      throw fail(Code.FailedPrecondition, "ORGANIZATION_SUSPENDED", "the organization is suspended");
    }
    const { role } = await endOne(tx, "invitations.accept", organizationId, id);
    const membership = { organizationId, userId, role };
    const [made] = await tx.insert(memberships).values(membership).onConflictDoNothing().returning();
    if (!made) throw fail(Code.AlreadyExists, "ALREADY_A_MEMBER", "you are a member already");
    return { result: organization, events: [memberChanged(membership)] };
  };
  const work = async (tx: Tx) => {
    await lockPerson(tx, userId);
    return changeWithin(tx, organizationId, join, invitationNotFound);
  };
  return withinScope(context.db, { organizationId, userId }, work, scope);
}

/** NOT_FOUND / INVITATION_NOT_FOUND, FAILED_PRECONDITION / EMAIL_NOT_VERIFIED, UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function declineInvitation(
  context: OrganizationContext,
  scope: CallScope,
  { userId }: Pick<Person, "userId">,
  id: string,
): Promise<void> {
  const organizationId = await requireOwn(context, scope, userId, id);
  const work = (tx: Tx) => endOne(tx, "invitations.decline", organizationId, id);
  await withinScope(context.db, { organizationId, userId }, work, scope);
}

/** Which organization it is to, of one that is open and the caller's. */
async function requireOwn(context: OrganizationContext, scope: CallScope, userId: string, id: string): Promise<string> {
  const emailKey = await verifiedEmailKeyOf(context, scope, userId);
  if (emailKey === undefined) {
    throw fail(Code.FailedPrecondition, "EMAIL_NOT_VERIFIED", "verify your e-mail address first");
  }
  const isOwn = and(eq(invitations.id, id), eq(invitations.emailKey, emailKey), isOpen);
  const find = (tx: Tx) => tx.select({ organizationId: invitations.organizationId }).from(invitations).where(isOwn);
  const [own] = await forPerson(context.db, { userId, emailKey }, find, scope);
  if (!own) throw invitationNotFound();
  return own.organizationId;
}

/** Undefined for one that is not verified. UNAUTHENTICATED for an account that was deleted a moment ago. */
async function verifiedEmailKeyOf(
  { clients }: OrganizationContext,
  scope: CallScope,
  userId: string,
): Promise<string | undefined> {
  try {
    const { account } = await clients.auth.getAccount({ userId }, onward(scope));
    return account?.emailVerifiedAt && emailKeyOf(account.email);
  } catch (error) {
    if (reasonOf(error) !== "ACCOUNT_NOT_FOUND") throw error;
    throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
  }
}
