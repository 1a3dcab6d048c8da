/**
 * Assignments: who was given which role or permission, and where. What comes with an account or a membership needs no row; the others are
 * given and taken, and doing either twice changes nothing and tells nobody. Only accounts that exist are given something on the
 * platform, and only current members in an organization.
 */
import { and, count, eq, gt, inArray, isNull, type SQL } from "drizzle-orm";
import { validate as isUuid, v7 as uuidv7 } from "uuid";
import { isAnyOf } from "../../db/any-of.ts";
import { during, type Tx } from "../../db/database.ts";
import { forOrganization, ofOrganization, type PredicateName } from "../../db/tenants.ts";
import { Code, fail } from "../../errors.ts";
import type { OutboxEvent } from "../../feed/emit.ts";
import { type PageRequest, pageOf, pageSizeOf, readPageToken } from "../../page-tokens.ts";
import { mergeRevisions, type Revisions } from "../../rights/revisions.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { type KnownAccount, kindsOfAccounts, lockAccount, requireAccount, userNotFound } from "./accounts.ts";
import { authorOf, permissionNotHeld, requireHeld } from "./authors.ts";
import { ADMIN_ROLE, refuseBuiltIn, rolesOfKind } from "./built-in-roles.ts";
import { change } from "./changes.ts";
import { given, taken } from "./events.ts";
import { askMembership, type Membership } from "./memberships.ts";
import { requireKnown } from "./permissions.ts";
import { findRole, roleNotFound } from "./roles.ts";
import { admins, assignments, roles } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** What is given: a role or one permission, by name. */
export type What = { role: string } | { permission: string };

/** That somebody has something. Ids as the database writes them. */
export interface Assignment {
  userId: string;
  /** Empty for the platform. */
  organizationId: string;
  /** The only branch in which it counts; empty for all. */
  branchId: string;
  what: What;
}

/** An assignment with its history. */
export interface StoredAssignment extends Assignment {
  /** UUID of an account, or name of a backend or operator. */
  assignedBy: string;
  assignedAt: Date;
}

const MAX_ASSIGNMENTS = 200;

/** The roles of those of these users that exist, on the platform, each in the order of code units. UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function rolesOfUsers(
  context: AccessContext,
  scope: CallScope,
  userIds: string[],
): Promise<{ userId: string; roles: string[] }[]> {
  const asked = [...new Set(userIds.map((userId) => userId.toLowerCase()))];
  const db = during(context.db, scope.signal);
  const [kinds, administering, assigned] = await Promise.all([
    kindsOfAccounts(context, onward(scope), asked),
    db.select({ userId: admins.userId }).from(admins).where(isAnyOf(admins.userId, asked)),
    db
      .select({ userId: assignments.userId, role: roles.name })
      .from(assignments)
      .innerJoin(roles, eq(roles.id, assignments.roleId))
      .where(and(isNull(assignments.organizationId), isAnyOf(assignments.userId, asked))),
  ]);
  const all = [...assigned, ...administering.map(({ userId }) => ({ userId, role: ADMIN_ROLE }))];
  return [...kinds].map(([userId, kind]) => {
    const own = all.filter((row) => row.userId === userId).map(({ role }) => role);
    return { userId, roles: [...rolesOfKind(kind), ...own].sort() };
  });
}

/** The roles of any user on the platform, by name. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function rolesOfUser(context: AccessContext, scope: CallScope, userId: string): Promise<string[]> {
  const [user] = await rolesOfUsers(context, scope, [userId]);
  if (!user) throw userNotFound();
  return user.roles;
}

/**
 * Gives a role or a permission to somebody; who gave it first stays on record. Fails as AssignRole and GrantPermission say. The
 * revisions include that of the membership: whoever knows them does not take the person for a stranger.
 */
export async function give(access: AccessContext, scope: CallScope, assignment: Assignment): Promise<Revisions> {
  const { organizationId, branchId, userId, what } = assignment;
  if ("role" in what) refuseBuiltIn(what.role);
  const [author, recipient] = await Promise.all([
    authorOf(access, scope, organizationId),
    recipientOf(access, scope, assignment),
  ]);
  const { revisions } = await change(access.db, scope, organizationId, async (tx) => {
    if ("kind" in recipient) await lockAccount(tx, recipient);
    const thing = await findThing(tx, assignment);
    if (!thing) throw roleNotFound();
    if ("permission" in what) await requireKnown(tx, thing.permissions);
    if (author.membership && thing.isOfPlatform && thing.permissions.length === 0) throw permissionNotHeld();
    await requireHeld(tx, author, assignment, thing.permissions);
    const membershipId = "kind" in recipient ? null : recipient.id;
    const where = { organizationId: organizationId || null, membershipId, branchId: branchId || null };
    const [stored] = await tx
      .insert(assignments)
      .values({ id: uuidv7(), userId, ...where, ...thing.columns, assignedBy: author.name })
      .onConflictDoNothing()
      .returning({ id: assignments.id });
    if (!stored) return { result: undefined, events: [] };
    await refuseTooMany(tx, assignment, membershipId);
    return { result: undefined, events: [given(assignment)] };
  });
  return "revisions" in recipient ? mergeRevisions(revisions, recipient.revisions) : revisions;
}

/** Takes a role or a permission from somebody; one that was not given is no error. Fails as UnassignRole and RevokePermission say. */
export async function take(access: AccessContext, scope: CallScope, assignment: Assignment): Promise<Revisions> {
  const { organizationId, branchId, userId, what } = assignment;
  if ("role" in what) refuseBuiltIn(what.role);
  const author = await authorOf(access, scope, organizationId);
  const { revisions } = await change(access.db, scope, organizationId, async (tx) => {
    const thing = await findThing(tx, assignment);
    if (!thing) return { result: undefined, events: [] };
    await requireHeld(tx, author, assignment, thing.permissions);
    const { roleId, permission } = thing.columns;
    const gone = await tx
      .delete(assignments)
      .where(
        and(
          isIn("assignments.take", organizationId),
          eq(assignments.userId, userId),
          branchId === "" ? isNull(assignments.branchId) : eq(assignments.branchId, branchId),
          roleId === null ? eq(assignments.permission, permission!) : eq(assignments.roleId, roleId),
        ),
      )
      .returning({ id: assignments.id });
    return { result: undefined, events: gone.map(() => taken(assignment)) };
  });
  return revisions;
}

/** Takes everything that was given so; returns what tells of it. For jobs, which see all rows. */
export async function takeAll(tx: Tx, isTaken: SQL | undefined): Promise<OutboxEvent[]> {
  const gone = await tx.delete(assignments).where(isTaken).returning();
  const ids = [...new Set(gone.flatMap(({ roleId }) => roleId ?? []))];
  const named = await tx.select({ id: roles.id, name: roles.name }).from(roles).where(inArray(roles.id, ids));
  const names = new Map(named.map(({ id, name }) => [id, name]));
  return gone.map((row) => taken(unpack({ ...row, role: row.roleId === null ? null : names.get(row.roleId)! })));
}

/** One page of what was given in an organization, oldest first; to one member, if there is an id. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listAssignments(
  access: AccessContext,
  { signal }: CallScope,
  organizationId: string,
  { userId, ...page }: { userId: string } & PageRequest,
): Promise<{ assignments: StoredAssignment[]; nextPageToken: string }> {
  const list = ["ListAssignments", organizationId, userId];
  const [after] = readPageToken(list, page, isIdKey) ?? [];
  const rows = await forOrganization(
    access.db,
    organizationId,
    (tx) =>
      tx
        .select({ assignment: assignments, role: roles.name })
        .from(assignments)
        .leftJoin(roles, eq(roles.id, assignments.roleId))
        .where(
          and(
            isIn("assignments.list", organizationId),
            userId === "" ? undefined : eq(assignments.userId, userId),
            after === undefined ? undefined : gt(assignments.id, after),
          ),
        )
        .orderBy(assignments.id)
        .limit(pageSizeOf(page) + 1),
    { signal },
  );
  const { entries, nextPageToken } = pageOf(list, page, rows, ({ assignment }) => [assignment.id]);
  return { assignments: entries.map(({ assignment, role }) => unpack({ ...assignment, role })), nextPageToken };
}

/** Whether a page's key is one id. */
export function isIdKey([id, ...others]: string[]): boolean {
  return isUuid(id) && others.length === 0;
}

type Recipient = KnownAccount | Membership;

/** Who is to be given something, as auth or organization knows them. NOT_FOUND for a closed or foreign branch, too. */
async function recipientOf(
  access: AccessContext,
  scope: CallScope,
  { organizationId, userId, branchId }: Assignment,
): Promise<Recipient> {
  if (organizationId === "") {
    if (branchId !== "") throw branchNotFound();
    return requireAccount(access, onward(scope), userId);
  }
  const membership = await askMembership(access, { organizationId, userId }, onward(scope));
  if (membership.role === null) throw noMember(scope);
  if (branchId !== "" && !membership.branchIds.includes(branchId)) throw branchNotFound();
  return membership;
}

interface Thing {
  columns: { roleId: string | null; permission: string | null };
  /** What it allows. */
  permissions: string[];
  /** A role that means something to the product, whatever it allows. */
  isOfPlatform: boolean;
}

/** Undefined for a role that does not exist there. */
async function findThing(tx: Tx, { organizationId, what }: Assignment): Promise<Thing | undefined> {
  if ("permission" in what) {
    return {
      columns: { roleId: null, permission: what.permission },
      permissions: [what.permission],
      isOfPlatform: false,
    };
  }
  const role = await findRole(tx, organizationId, what.role);
  if (!role) return undefined;
  const { id: roleId, permissions } = role;
  return { columns: { roleId, permission: null }, permissions, isOfPlatform: role.organizationId === null };
}

async function refuseTooMany(tx: Tx, assignment: Assignment, membershipId: string | null): Promise<void> {
  const { organizationId, userId } = assignment;
  const isCounted = membershipId === null ? undefined : eq(assignments.membershipId, membershipId);
  const isTheirs = and(isIn("assignments.count", organizationId), eq(assignments.userId, userId), isCounted);
  const [stored] = await tx.select({ count: count() }).from(assignments).where(isTheirs);
  if (stored!.count <= MAX_ASSIGNMENTS) return;
  throw fail(Code.FailedPrecondition, "TOO_MANY_ASSIGNMENTS", "this user was given as much there as one may be given");
}

function isIn(query: PredicateName, organizationId: string): SQL {
  if (organizationId === "") return isNull(assignments.organizationId);
  return ofOrganization(query, assignments.organizationId, organizationId);
}

function unpack(
  row: Omit<typeof assignments.$inferSelect, "id" | "roleId" | "membershipId"> & { role: string | null },
): StoredAssignment {
  const { userId, organizationId, branchId, role, permission, assignedBy, assignedAt } = row;
  const what = role === null ? { permission: permission! } : { role };
  return { userId, organizationId: organizationId ?? "", branchId: branchId ?? "", what, assignedBy, assignedAt };
}

/** To members, people are members; to services, users. */
function noMember({ caller }: CallScope) {
  if (caller.kind !== "user") return userNotFound();
  return fail(Code.NotFound, "MEMBER_NOT_FOUND", "there is no such member");
}

function branchNotFound() {
  return fail(Code.NotFound, "BRANCH_NOT_FOUND", "there is no such branch");
}
