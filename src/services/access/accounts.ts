/**
 * Accounts: which ones there are is auth's to say. access remembers those that it has heard of in auth's feed, and asks auth only
 * for the others; so a known person's roles are told while auth is away. A deleted one is remembered, as one that is not there.
 */
import { eq, sql } from "drizzle-orm";
import { type Db, during, type Tx } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { knownAccounts } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** Remembers an account that auth has told of. */
export async function rememberAccount(tx: Tx, userId: string): Promise<void> {
  await tx.insert(knownAccounts).values({ userId }).onConflictDoNothing();
}

/** Remembers that an account is deleted. Who comes to lockAccount() later finds it gone; who was there first is waited for. */
export async function markDeleted(tx: Tx, userId: string): Promise<void> {
  const deletedAt = sql`concierge_now()`;
  await tx
    .insert(knownAccounts)
    .values({ userId, deletedAt })
    .onConflictDoUpdate({ target: knownAccounts.userId, set: { deletedAt } });
}

/** Keeps an account that exists from being deleted until the transaction ends. NOT_FOUND / USER_NOT_FOUND if it was. */
export async function lockAccount(tx: Tx, userId: string): Promise<void> {
  await rememberAccount(tx, userId);
  const [account] = await tx
    .select({ deletedAt: knownAccounts.deletedAt })
    .from(knownAccounts)
    .where(eq(knownAccounts.userId, userId))
    .for("share");
  if (account?.deletedAt) throw userNotFound();
}

/** Resolves if the account exists. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE for one not heard of. */
export async function requireAccount({ db, clients }: AccessContext, scope: CallScope, userId: string): Promise<void> {
  const known = await findKnown(during(db, scope.signal), userId);
  if (known?.deletedAt) throw userNotFound();
  if (known) return;
  try {
    await clients.auth.getAccount({ userId }, onward(scope));
  } catch (error) {
    if (reasonOf(error) !== "ACCOUNT_NOT_FOUND") throw error;
    throw userNotFound(error);
  }
}

async function findKnown(db: Db, userId: string): Promise<typeof knownAccounts.$inferSelect | undefined> {
  const [known] = await db.select().from(knownAccounts).where(eq(knownAccounts.userId, userId));
  return known;
}

function userNotFound(cause?: unknown) {
  return fail(Code.NotFound, "USER_NOT_FOUND", "there is no such user", { cause });
}
