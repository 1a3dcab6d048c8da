/** The current password of somebody who is logged in already, asked for again before what a found token must not do. */
import { eq } from "drizzle-orm";
import { during, type Tx, transaction } from "../../db/database.ts";
import type { CallScope } from "../../rpc/call.ts";
import { type Account, lockActiveAccount } from "./accounts.ts";
import { badCredentials, checkPassword } from "./attempts.ts";
import type { AuditAction } from "./audit.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";

/** A password that was right, at the version that the credential had then. */
export interface CheckedPassword {
  userId: string;
  /** What it was asked for. */
  action: AuditAction;
  version: number;
  account: Account;
}

/**
 * Checks it, for the sake of `action`, under which a refusal is written down; `isKnown` unless the caller has no session. UNAUTHENTICATED / BAD_CREDENTIALS,
 * RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS.
 */
export async function checkCurrentPassword(
  auth: AuthContext,
  scope: CallScope,
  asked: { userId: string; password: string; action: AuditAction; isKnown?: boolean },
): Promise<CheckedPassword> {
  const { userId, password, action, isKnown = true } = asked;
  const [own] = await during(auth.db, scope.signal)
    .select({ passwordHash: credentials.passwordHash, version: credentials.version, account: accounts })
    .from(credentials)
    .innerJoin(accounts, eq(accounts.id, credentials.accountId))
    .where(eq(credentials.accountId, userId));
  if (!own) throw await badCredentials(auth, scope, { action, accountId: userId });
  const { emailKey, status } = own.account;
  const isUsable = status === "active";
  const claim = { action, emailKey, isKnown, isUsable, accountId: userId, credential: own };
  const { version, account } = await checkPassword(auth, scope, claim, password);
  return { userId, action, version, account };
}

/**
 * Runs `work` in a transaction that has locked account and credential, if the password is still the same and may be used.
 * UNAUTHENTICATED / BAD_CREDENTIALS.
 */
export async function withCheckedPassword<T>(
  auth: AuthContext,
  scope: CallScope,
  checked: CheckedPassword,
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  const done = await transaction(
    auth.db,
    async (tx) => {
      const account = await lockActiveAccount(tx, checked.userId);
      return account?.version === checked.version ? { result: await work(tx) } : undefined;
    },
    { signal: scope.signal },
  );
  if (done) return done.result;
  throw await badCredentials(auth, scope, { action: checked.action, accountId: checked.userId });
}
