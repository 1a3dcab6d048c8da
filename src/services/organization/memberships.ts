/**
 * Memberships: who is a member of what, and as what. The last owner can be neither removed nor demoted (C19), and
 * nobody makes, changes or removes a member who is more than they are themselves, whatever permissions a role of the
 * organization's own gives them.
 */
import { and, count, eq, ne, sql } from "drizzle-orm";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import type { Db, Tx } from "../../db/database.ts";
import { forOrganization, ofOrganization } from "../../db/tenants.ts";
import { Code, fail } from "../../errors.ts";
import type { OutboxEvent } from "../../feed/emit.ts";
import { permissionMissing } from "../../rights/require-permission.ts";
import type { CallScope, Member, Person } from "../../rpc/call.ts";
import {
  changeAsMember,
  changeOrganization,
  type Organization,
  organizationNotFound,
  roleOf,
  type Stored,
} from "./changes.ts";
import { memberChanged, memberRemoved, subjectOf } from "./events.ts";
import { endInvitationsOf } from "./invitations.ts";
import { branches, MEMBER_ROLES, memberships, organizations } from "./schema.ts";

export type Membership = Pick<typeof memberships.$inferSelect, "organizationId" | "userId" | "role">;
export type Role = Membership["role"];

type Scope = Pick<CallScope, "signal">;

/** Throws UNAUTHENTICATED / REAUTHENTICATE unless the caller has logged in a moment ago: what is done to owners takes it. */
export type RequireRecent = () => void;

/** What somebody is in an organization, and what the organization is, all of one moment. */
export interface Standing {
  /** Null for somebody who is no member. */
  role: Role | null;
  /** UUID of the membership; null for somebody who is no member. */
  membershipId: string | null;
  status: Organization["status"];
  /** The open branches. */
  branchIds: string[];
  revision: bigint;
}

/** NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function getStanding(
  db: Db,
  scope: Scope,
  { organizationId, userId }: { organizationId: string; userId: string },
): Promise<Standing> {
  const id = organizationId.toLowerCase();
  // One statement, so of one moment: what is older than its revision would be kept as if it were not.
  const query = sql`
    select ${organizations.status} as status, ${memberships.role} as role,
      ${memberships.id} as "membershipId",
      coalesce((select jsonb_agg(${branches.id} order by ${branches.id}) from ${branches}
        where ${ofOrganization("branches.standing", branches.organizationId, id)} and ${branches.closedAt} is null),
        '[]') as "branchIds",
      coalesce((select version from feed_subject where subject = ${subjectOf(id)}), 0)::text as revision
    from ${organizations} left join ${memberships}
      on ${memberships.organizationId} = ${organizations.id} and ${memberships.userId} = ${userId}
    where ${ofOrganization("organizations.standing", organizations.id, id)} and ${ne(organizations.status, "deleted")}`;
  type Found = { [Key in keyof Standing]: Standing[Key] } & { revision: string };
  const [found] = await forOrganization(db, id, (tx) => tx.execute<Found>(query), scope);
  if (!found) throw organizationNotFound();
  return { ...found, revision: BigInt(found.revision) };
}

/**
 * Changes what a member is. NOT_FOUND / MEMBER_NOT_FOUND, PERMISSION_DENIED / PERMISSION_MISSING, FAILED_PRECONDITION /
 * LAST_OWNER, and for owners what `requireRecent` throws.
 */
export function changeMemberRole(
  db: Db,
  scope: Scope,
  member: Member,
  { userId, role }: { userId: string; role: Role },
  requireRecent: RequireRecent,
): Promise<Stored<void>> {
  return changeAsMember(db, scope, member, async (tx, acting) => {
    const target = await requireMember(tx, acting.organization, userId);
    requireMayDeal(acting.role, [target.role, role], requireRecent);
    return { result: undefined, events: await setRole(tx, target, role) };
  });
}

/** Ends the membership of somebody. Errors as above. */
export function removeMember(
  db: Db,
  scope: Scope,
  member: Member,
  userId: string,
  requireRecent: RequireRecent,
): Promise<Stored<void>> {
  return changeAsMember(db, scope, member, async (tx, acting) => {
    const target = await requireMember(tx, acting.organization, userId);
    requireMayDeal(acting.role, [target.role], requireRecent);
    await keepAnOwner(tx, target);
    return { result: undefined, events: [await endMembership(tx, target)] };
  });
}

/**
 * Ends one's own membership, of a suspended organization, too. NOT_FOUND / ORGANIZATION_NOT_FOUND, FAILED_PRECONDITION
 * / LAST_OWNER.
 */
export function leaveOrganization(
  db: Db,
  scope: Scope,
  { userId }: Pick<Person, "userId">,
  organizationId: string,
): Promise<Stored<void>> {
  return changeOrganization(db, scope, organizationId, async (tx, { id }) => {
    const role = await roleOf(tx, id, userId);
    if (!role) throw organizationNotFound();
    const own = { organizationId: id, userId, role };
    await keepAnOwner(tx, own);
    return { result: undefined, events: [await endMembership(tx, own)] };
  });
}

/**
 * Makes another member an owner, and the caller an admin. NOT_FOUND / MEMBER_NOT_FOUND, PERMISSION_DENIED /
 * PERMISSION_MISSING.
 */
export function transferOwnership(db: Db, scope: Scope, member: Member, userId: string): Promise<Stored<void>> {
  return changeAsMember(db, scope, member, async (tx, acting) => {
    requireRank(acting.role, "owner");
    const target = await requireMember(tx, acting.organization, userId);
    if (target.userId === acting.userId) throw memberNotFound();
    const own = { ...target, userId: acting.userId, role: acting.role };
    const made = await setRole(tx, target, "owner");
    return { result: undefined, events: [...made, ...(await setRole(tx, own, "admin"))] };
  });
}

/** Ends a membership of an organization that is locked; returns what tells of it. */
export async function endMembership(tx: Tx, membership: Membership): Promise<OutboxEvent> {
  const isEnding = isMembership("memberships.end", membership);
  const [ended] = await tx.delete(memberships).where(isEnding).returning({ id: memberships.id });
  await endInvitationsOf(tx, membership);
  return memberRemoved(membership, ended!.id);
}

/** How many members an organization has beside somebody, and how many of them own it. */
export async function countOthers(
  tx: Tx,
  { organizationId, userId }: Omit<Membership, "role">,
): Promise<{ members: number; owners: number }> {
  const isOther = and(
    ofOrganization("memberships.others", memberships.organizationId, organizationId),
    ne(memberships.userId, userId),
  );
  const owners = sql`count(*) filter (where ${memberships.role} = 'owner')`.mapWith(Number);
  const [others] = await tx.select({ members: count(), owners }).from(memberships).where(isOther);
  return others!;
}

export function lastOwner() {
  return fail(
    Code.FailedPrecondition,
    "LAST_OWNER",
    "an organization keeps at least one owner: make another one first",
  );
}

/** Nobody deals with roles above their own. */
export function requireRank(own: Role, ...roles: Role[]): void {
  const rank = (role: Role) => MEMBER_ROLES.indexOf(role);
  if (roles.some((role) => rank(role) > rank(own))) throw permissionMissing();
}

/** The same, and whoever deals with owners must have logged in a moment ago. */
export function requireMayDeal(own: Role, roles: Role[], requireRecent: RequireRecent): void {
  requireRank(own, ...roles);
  if (roles.includes("owner")) requireRecent();
}

async function requireMember(tx: Tx, { id: organizationId }: Organization, id: string): Promise<Membership> {
  const userId = id.toLowerCase();
  const role = await roleOf(tx, organizationId, userId);
  if (!role) throw memberNotFound();
  return { organizationId, userId, role };
}

async function setRole(tx: Tx, before: Membership, role: Role): Promise<OutboxEvent[]> {
  if (before.role === role) return [];
  const after = { ...before, role };
  await tx.update(memberships).set({ role }).where(isMembership("memberships.change", before));
  await keepAnOwner(tx, before);
  await endInvitationsOf(tx, after);
  return [memberChanged(after)];
}

/** For a membership that is about to end, or has become another. */
async function keepAnOwner(tx: Tx, membership: Membership): Promise<void> {
  if (membership.role === "owner" && (await countOthers(tx, membership)).owners === 0) throw lastOwner();
}

function isMembership(name: "memberships.end" | "memberships.change", { organizationId, userId }: Membership) {
  return and(ofOrganization(name, memberships.organizationId, organizationId), eq(memberships.userId, userId));
}

function memberNotFound() {
  return fail(Code.NotFound, "MEMBER_NOT_FOUND", "there is no such member");
}

const ROLES: Record<Role, MemberRole> = {
  member: MemberRole.MEMBER,
  admin: MemberRole.ADMIN,
  owner: MemberRole.OWNER,
};

export function packRole(role: Role): MemberRole {
  return ROLES[role];
}

/** Undefined for MEMBER_ROLE_UNSPECIFIED. */
export function unpackRole(role: MemberRole): Role | undefined {
  return MEMBER_ROLES.find((name) => ROLES[name] === role);
}
