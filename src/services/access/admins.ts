/**
 * Administrators. A new installation has none; an operator makes the first one, once in its life, and further ones after that.
 * There is at least one from then on, however many are taken away at the same time; only who deletes their account goes in any case.
 */
import { eq } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import { type CallScope, keyHolderOf, onward } from "../../rpc/call.ts";
import { type KnownAccount, lockAccount, requireAccount } from "./accounts.ts";
import type { Assignment } from "./assignments.ts";
import { ADMIN_ROLE } from "./built-in-roles.ts";
import { given, taken } from "./events.ts";
import { admins, firstAdmin } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/**
 * Makes the first administrator. NOT_FOUND / USER_NOT_FOUND, FAILED_PRECONDITION / ADMIN_EXISTS when it was done before, but for the
 * same user who still is one: so it may be repeated when its answer was lost.
 */
export async function bootstrapAdmin(context: AccessContext, scope: CallScope, userId: string): Promise<void> {
  const assignedBy = keyHolderOf(scope).name;
  const account = await requireAccount(context, onward(scope), userId);
  await transaction(
    context.db,
    async (tx) => {
      // Waits for another transaction that is doing the same, and then does nothing.
      const [made] = await tx.insert(firstAdmin).values({ userId }).onConflictDoNothing().returning();
      if (made) return giveAdmin(tx, account, assignedBy);
      if (await isFirstAdmin(tx, userId)) return;
      throw fail(Code.FailedPrecondition, "ADMIN_EXISTS", "the first administrator was made before");
    },
    { signal: scope.signal },
  );
}

/** Makes another administrator. NOT_FOUND / USER_NOT_FOUND, FAILED_PRECONDITION / NOT_BOOTSTRAPPED. */
export async function grantAdmin(context: AccessContext, scope: CallScope, userId: string): Promise<void> {
  const assignedBy = keyHolderOf(scope).name;
  const account = await requireAccount(context, onward(scope), userId);
  await transaction(
    context.db,
    async (tx) => {
      const [first] = await tx.select().from(firstAdmin);
      if (!first) throw fail(Code.FailedPrecondition, "NOT_BOOTSTRAPPED", "the first administrator was not made yet");
      await giveAdmin(tx, account, assignedBy);
    },
    { signal: scope.signal },
  );
}

/** Takes an administrator away; somebody who is none is no error. FAILED_PRECONDITION / LAST_ADMIN. */
export async function revokeAdmin(db: Db, { signal }: CallScope, userId: string): Promise<void> {
  await transaction(
    db,
    async (tx) => {
      // One at a time: two who each take one of the last two would both see the other one left.
      await tx.select().from(firstAdmin).for("update");
      const [gone] = await tx.delete(admins).where(eq(admins.userId, userId)).returning();
      if (!gone) return;
      await emit(tx, [taken(administering(gone.userId))]);
      const [left] = await tx.select().from(admins).limit(1);
      if (!left) throw fail(Code.FailedPrecondition, "LAST_ADMIN", "the last administrator must stay");
    },
    { signal },
  );
}

async function giveAdmin(tx: Tx, account: KnownAccount, assignedBy: string): Promise<void> {
  await lockAccount(tx, account);
  const { userId } = account;
  const [made] = await tx.insert(admins).values({ userId, assignedBy }).onConflictDoNothing().returning();
  if (made) await emit(tx, [given(administering(userId))]);
}

async function isFirstAdmin(tx: Tx, userId: string): Promise<boolean> {
  const [admin] = await tx
    .select()
    .from(firstAdmin)
    .innerJoin(admins, eq(admins.userId, firstAdmin.userId))
    .where(eq(firstAdmin.userId, userId));
  return admin !== undefined;
}

function administering(userId: string): Assignment {
  return { userId, organizationId: "", branchId: "", what: { role: ADMIN_ROLE } };
}
