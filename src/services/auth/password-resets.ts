/**
 * Passwords that were forgotten: whoever gets a link by mail chooses a new one, and everything that the old one let in
 * goes out.
 */
import { eq, sql } from "drizzle-orm";
import { during, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { accountNotFound, getAccount, lockActiveAccount, ownWordsOf } from "./accounts.ts";
import { forgetAttempts, takeAnonymousCall } from "./attempts.ts";
import { audit } from "./audit.ts";
import { forgetDevices } from "./devices.ts";
import { badMailToken, findMailToken, requireMailing, spendMailToken, writeMail } from "./mails.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions } from "./sessions.ts";

/**
 * Replaces the password of the account that the token was mailed to, whose address is verified by it. INVALID_ARGUMENT
 * / BAD_MAIL_TOKEN, RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS.
 */
export async function resetPassword(
  auth: AuthContext,
  scope: CallScope,
  { token, newPassword }: { token: string; newPassword: string },
): Promise<void> {
  const { db, passwords, mailing } = auth;
  const { signal } = scope;
  // Before the costly hash; it is looked at again under the lock.
  await takeAnonymousCall(auth, scope, "password_reset");
  const { mailId, accountId } = await findMailToken(during(db, signal), token, ["reset_password"]);
  const known = await getAccount(during(db, signal), accountId);
  const passwordHash = await passwords.hash(newPassword, ownWordsOf(known), signal);
  await transaction(
    db,
    async (tx) => {
      const account = await lockActiveAccount(tx, accountId);
      if (!account) throw badMailToken();
      await spendMailToken(tx, mailId, account.version);
      const changed = { passwordHash, version: account.version + 1 };
      await tx.update(credentials).set(changed).where(eq(credentials.accountId, accountId));
      const emailVerifiedAt = sql`coalesce(${accounts.emailVerifiedAt}, concierge_now())`;
      await tx.update(accounts).set({ emailVerifiedAt }).where(eq(accounts.id, accountId));
      const { events } = await endAllSessions(tx, accountId, "password_reset");
      await forgetDevices(tx, accountId);
      await forgetAttempts(tx, auth, known.emailKey);
      await emit(tx, events);
      await writeMail(tx, mailing, scope, { kind: "password_changed", accountId });
      await audit(tx, scope, { action: "password_reset", accountId });
    },
    { signal },
  );
}

/**
 * Has a link mailed to the owner of an account, and ends all of its sessions. NOT_FOUND / ACCOUNT_NOT_FOUND,
 * FAILED_PRECONDITION / MAIL_DISABLED.
 */
export async function sendPasswordReset(
  { db, mailing }: AuthContext,
  scope: CallScope,
  accountId: string,
): Promise<void> {
  requireMailing(mailing);
  await transaction(
    db,
    async (tx) => {
      if (!(await lockActiveAccount(tx, accountId))) throw accountNotFound();
      const { events } = await endAllSessions(tx, accountId, "ended_by_administrator");
      await emit(tx, events);
      await writeMail(tx, mailing, scope, { kind: "reset_password", accountId, isUnlimited: true });
      await audit(tx, scope, { action: "password_reset_asked", accountId });
    },
    { signal: scope.signal },
  );
  mailing.alarm.ring();
}
