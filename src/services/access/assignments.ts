/**
 * Assignments: who has which role. Every account has the role `user`, without a row; the others are given and taken,
 * and doing either twice changes nothing and tells nobody. Only accounts that exist are given roles (accounts.ts).
 */
import { and, eq } from "drizzle-orm";
import { type Db, during, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import { type CallScope, keyHolderOf } from "../../rpc/call.ts";
import { lockAccount, markDeleted, requireAccount } from "./accounts.ts";
import { roleAssigned, roleUnassigned } from "./events.ts";
import { ACCOUNT_ROLE, isBuiltIn, isMadeRole } from "./roles.ts";
import { roleAssignments } from "./schema.ts";
import type { AccessContext } from "./service.ts";

export interface Assignment {
  /** UUID of the account. */
  userId: string;
  role: string;
}

const assignment = { userId: roleAssignments.userId, role: roleAssignments.role };

/** The roles of an account that is known to exist, by name in the order of code units. */
export async function rolesOfAccount(db: Db, userId: string): Promise<string[]> {
  const given = await db
    .select({ role: roleAssignments.role })
    .from(roleAssignments)
    .where(eq(roleAssignments.userId, userId));
  return [ACCOUNT_ROLE, ...given.map(({ role }) => role)].sort();
}

/** The roles of any user, by name. NOT_FOUND / USER_NOT_FOUND. */
export async function rolesOfUser(context: AccessContext, scope: CallScope, userId: string): Promise<string[]> {
  await requireAccount(context, scope, userId);
  return rolesOfAccount(during(context.db, scope.signal), userId);
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
  await requireAccount(context, scope, userId);
  await transaction(
    db,
    async (tx) => {
      await lockAccount(tx, userId);
      const values = { userId, role, assignedBy };
      const [given] = await tx.insert(roleAssignments).values(values).onConflictDoNothing().returning(assignment);
      if (given) await emit(tx, [roleAssigned(given)]);
    },
    { signal: scope.signal },
  );
}

/** Takes a role from a user; one that the user does not have is no error. INVALID_ARGUMENT / ROLE_BUILT_IN. */
export async function unassignRole(db: Db, { signal }: CallScope, { userId, role }: Assignment): Promise<void> {
  refuseBuiltIn(role);
  await transaction(
    db,
    async (tx) => {
      const [taken] = await tx
        .delete(roleAssignments)
        .where(and(eq(roleAssignments.userId, userId), eq(roleAssignments.role, role)))
        .returning(assignment);
      if (taken) await emit(tx, [roleUnassigned(taken)]);
    },
    { signal },
  );
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
