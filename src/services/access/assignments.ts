/**
 * Assignments: who has which role. Those that come with a kind of account need no row; the others are given and
 * taken, and doing either twice changes nothing and tells nobody. Only accounts that exist are given roles (accounts.ts).
 */
import { and, eq, inArray } from "drizzle-orm";
import { type Db, during, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import { type CallScope, keyHolderOf } from "../../rpc/call.ts";
import {
  type KnownAccount,
  kindsOfAccounts,
  lockAccount,
  markDeleted,
  requireAccount,
  userNotFound,
} from "./accounts.ts";
import { roleAssigned, roleUnassigned } from "./events.ts";
import { isBuiltIn, isMadeRole, rolesOfKind } from "./roles.ts";
import { roleAssignments } from "./schema.ts";
import type { AccessContext } from "./service.ts";

export interface Assignment {
  /** UUID of the account. */
  userId: string;
  role: string;
}

const assignment = { userId: roleAssignments.userId, role: roleAssignments.role };

/** The roles of those of these users that exist, each in the order of code units. UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function rolesOfUsers(
  context: AccessContext,
  scope: CallScope,
  userIds: string[],
): Promise<{ userId: string; roles: string[] }[]> {
  const asked = [...new Set(userIds.map((userId) => userId.toLowerCase()))];
  const [kinds, given] = await Promise.all([
    kindsOfAccounts(context, scope, asked),
    during(context.db, scope.signal)
      .select(assignment)
      .from(roleAssignments)
      .where(inArray(roleAssignments.userId, asked)),
  ]);
  return [...kinds].map(([userId, kind]) => {
    const own = given.filter((row) => row.userId === userId).map(({ role }) => role);
    return { userId, roles: [...rolesOfKind(kind), ...own].sort() };
  });
}

/** The roles of any user, by name. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE. */
export async function rolesOfUser(context: AccessContext, scope: CallScope, userId: string): Promise<string[]> {
  const [user] = await rolesOfUsers(context, scope, [userId]);
  if (!user) throw userNotFound();
  return user.roles;
}

/**
 * Gives a role to a user. NOT_FOUND / USER_NOT_FOUND, NOT_FOUND / ROLE_NOT_FOUND, INVALID_ARGUMENT / ROLE_BUILT_IN.
 * Who gave it first stays on record.
 */
export async function assignRole(
  context: AccessContext,
  scope: CallScope,
  { userId, role }: Assignment,
): Promise<void> {
  const { db } = context;
  const assignedBy = keyHolderOf(scope).name;
  refuseBuiltIn(role);
  if (!(await isMadeRole(during(db, scope.signal), role)))
    throw fail(Code.NotFound, "ROLE_NOT_FOUND", "there is no such role");
  const account = await requireAccount(context, scope, userId);
  await transaction(db, (tx) => giveRole(tx, account, { role, assignedBy }), { signal: scope.signal });
}

/** Stores that an account has a role, and tells of it; nothing if it has the role already. NOT_FOUND / USER_NOT_FOUND. */
export async function giveRole(
  tx: Tx,
  account: KnownAccount,
  { role, assignedBy }: { role: string; assignedBy: string },
): Promise<void> {
  await lockAccount(tx, account);
  const values = { userId: account.userId, role, assignedBy };
  const [given] = await tx.insert(roleAssignments).values(values).onConflictDoNothing().returning(assignment);
  if (given) await emit(tx, [roleAssigned(given)]);
}

/** Takes a role from a user; one that the user does not have is no error. INVALID_ARGUMENT / ROLE_BUILT_IN. */
export async function unassignRole(db: Db, { signal }: CallScope, { userId, role }: Assignment): Promise<void> {
  refuseBuiltIn(role);
  await transaction(db, (tx) => takeRole(tx, { userId, role }), { signal });
}

/** Stores that an account has a role no more, and tells of it. False if it did not have it. */
export async function takeRole(tx: Tx, { userId, role }: Assignment): Promise<boolean> {
  const [taken] = await tx
    .delete(roleAssignments)
    .where(and(eq(roleAssignments.userId, userId), eq(roleAssignments.role, role)))
    .returning(assignment);
  if (taken) await emit(tx, [roleUnassigned(taken)]);
  return taken !== undefined;
}

/** Takes all roles from an account that is deleted, for good; returns what tells of it. */
export async function removeAccount(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  await markDeleted(tx, userId);
  const taken = await tx.delete(roleAssignments).where(eq(roleAssignments.userId, userId)).returning(assignment);
  return taken.map(roleUnassigned);
}

function refuseBuiltIn(role: string): void {
  if (!isBuiltIn(role)) return;
  throw fail(Code.InvalidArgument, "ROLE_BUILT_IN", "a built-in role cannot be given or taken");
}
