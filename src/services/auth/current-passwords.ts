/** The current password of somebody who is logged in already, asked for again before what a found token must not do. */
import { eq } from "drizzle-orm";
import { during, type Tx } from "../../db/database.ts";
import type { CallScope } from "../../rpc/call.ts";
import type { Account } from "./accounts.ts";
import { type AuditAction, audit } from "./audit.ts";
import { badCredentials, lockCredential } from "./logins.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";

/** A password that was right, at the version that the credential had then. */
export interface CheckedPassword {
  userId: string;
  version: number;
  account: Account;
}

/** Checks it, for the sake of `action`, under which a refusal is written down. UNAUTHENTICATED / BAD_CREDENTIALS. */
export async function checkCurrentPassword(
  { db, passwords }: AuthContext,
  scope: CallScope,
  { userId, password, action }: { userId: string; password: string; action: AuditAction },
): Promise<CheckedPassword> {
  const { signal } = scope;
  const [found] = await during(db, signal)
    .select({ passwordHash: credentials.passwordHash, version: credentials.version, account: accounts })
    .from(credentials)
    .innerJoin(accounts, eq(accounts.id, credentials.accountId))
    .where(eq(credentials.accountId, userId));
  if ((await passwords.verify(found?.passwordHash, password, signal)) && found) {
    return { userId, version: found.version, account: found.account };
  }
  const entry = { action, outcome: "refused", reason: "bad_credentials", accountId: userId } as const;
  await audit(during(db, signal), scope, entry);
  throw badCredentials();
}

/** Locks account and credential if the password is still the same and may be used. UNAUTHENTICATED / BAD_CREDENTIALS. */
export async function lockChecked(tx: Tx, checked: CheckedPassword): Promise<void> {
  if (!(await lockCredential(tx, checked))) throw badCredentials();
}
