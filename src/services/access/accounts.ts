/**
 * Accounts: which ones there are is auth's to say. access remembers those that it has heard of in auth's feed, and asks auth only
 * for the others; so a known person's roles are told while auth is away.
 */
import { eq } from "drizzle-orm";
import { type Db, during, type Tx } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { knownAccounts } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** Remembers an account that auth has told of. */
export async function rememberAccount(tx: Tx, userId: string): Promise<void> {
  await tx.insert(knownAccounts).values({ userId }).onConflictDoNothing();
}

/** Resolves if the account exists. NOT_FOUND / USER_NOT_FOUND, UNAVAILABLE / DEPENDENCY_UNAVAILABLE for one not heard of. */
export async function requireAccount({ db, clients }: AccessContext, scope: CallScope, userId: string): Promise<void> {
  if (await isKnown(during(db, scope.signal), userId)) return;
  try {
    await clients.auth.getAccount({ userId }, onward(scope));
  } catch (error) {
    if (reasonOf(error) !== "ACCOUNT_NOT_FOUND") throw error;
    throw fail(Code.NotFound, "USER_NOT_FOUND", "there is no such user", { cause: error });
  }
}

async function isKnown(db: Db, userId: string): Promise<boolean> {
  const [known] = await db.select().from(knownAccounts).where(eq(knownAccounts.userId, userId));
  return known !== undefined;
}
