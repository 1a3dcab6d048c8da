/**
 * Deleting an account, for good. What tells of the person goes in one transaction; what stays is a tombstone: an id, a
 * kind, and times. The audit log keeps what happened until its own end. The other services hear of it from the feed,
 * and remove what they have.
 */
import { eq, inArray, or } from "drizzle-orm";
import { type Tx, transaction } from "../../db/database.ts";
import { emailKeyOf, inboxKeyOf } from "../../emails.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import { type CallScope, onward, type Person } from "../../rpc/call.ts";
import { type Account, accountNotFound } from "./accounts.ts";
import { forgetAttempts } from "./attempts.ts";
import { audit } from "./audit.ts";
import { checkCurrentPassword, withCheckedPassword } from "./current-passwords.ts";
import { forgetDevices } from "./devices.ts";
import { accountDeleted } from "./events.ts";
import { accounts, credentials, mailRequests, mails, sessions } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions } from "./sessions.ts";

/**
 * Deletes the account of the person who calls. UNAUTHENTICATED / BAD_CREDENTIALS, RESOURCE_EXHAUSTED /
 * TOO_MANY_ATTEMPTS, and what releaseUser() throws.
 */
export async function deleteMyAccount(
  auth: AuthContext,
  scope: CallScope,
  { userId }: Person,
  currentPassword: string,
): Promise<void> {
  const asked = { userId, password: currentPassword, action: "account_deleted" } as const;
  const checked = await checkCurrentPassword(auth, scope, asked);
  // Nothing brings memberships back: what would refuse the deletion is looked at right before they end.
  await withCheckedPassword(auth, scope, checked, async () => {});
  await releaseUser(auth, scope, userId);
  await withCheckedPassword(auth, scope, checked, (tx) => bury(tx, auth, scope, checked.account));
}

/** Deletes an account, unless that has been done. NOT_FOUND / ACCOUNT_NOT_FOUND, and what releaseUser() throws. */
export async function deleteAccount(auth: AuthContext, scope: CallScope, userId: string): Promise<void> {
  await releaseUser(auth, scope, userId);
  await transaction(
    auth.db,
    async (tx) => {
      const [account] = await tx
        .select({ id: accounts.id, status: accounts.status, emailKey: accounts.emailKey })
        .from(accounts)
        .where(eq(accounts.id, userId))
        .for("no key update");
      if (!account) throw accountNotFound();
      if (account.status !== "deleted") await bury(tx, auth, scope, account);
    },
    { signal: scope.signal },
  );
}

/**
 * Ends the person's memberships of organizations, before the account goes: FAILED_PRECONDITION / LAST_OWNER if one
 * would be left without an owner, UNAVAILABLE / DEPENDENCY_UNAVAILABLE if nobody can tell.
 */
async function releaseUser({ clients }: AuthContext, scope: CallScope, userId: string): Promise<void> {
  try {
    await clients.organization.releaseUser({ userId }, onward(scope));
  } catch (error) {
    if (reasonOf(error) !== "LAST_OWNER") throw error;
    throw fail(Code.FailedPrecondition, "LAST_OWNER", "make somebody else an owner of your organizations first");
  }
}

/** Leaves the tombstone of an account whose row is locked. Its id as the database writes it. */
async function bury(
  tx: Tx,
  auth: AuthContext,
  scope: CallScope,
  { id: userId, emailKey }: Pick<Account, "id" | "emailKey">,
): Promise<void> {
  const { events } = await endAllSessions(tx, userId, "account_deleted");
  await tx.update(sessions).set({ userAgent: "", address: "" }).where(eq(sessions.accountId, userId));
  await forgetDevices(tx, userId);
  await forgetAttempts(tx, auth, emailKey);
  await tx.delete(mailRequests).where(eq(mailRequests.emailKey, emailKey));
  await deleteMails(tx, userId, emailKey);
  await tx.delete(credentials).where(eq(credentials.accountId, userId));
  const nothing = { email: "", firstName: "", lastName: "", locale: "", stageName: "", lastOrganizationId: null };
  // No address is like this: nobody can log in by it, or register it.
  const tombstone = { ...nothing, status: "deleted", emailKey: userId, emailVerifiedAt: null } as const;
  await tx.update(accounts).set(tombstone).where(eq(accounts.id, userId));
  await emit(tx, [...events, accountDeleted(userId)]);
  await audit(tx, scope, { action: "account_deleted", accountId: userId });
}

/** Also invitations to the address, but not those to other addresses of the same inbox. */
async function deleteMails(tx: Tx, userId: string, emailKey: string): Promise<void> {
  const toInbox = await tx
    .select({ id: mails.id, recipient: mails.recipient })
    .from(mails)
    .where(eq(mails.recipientKey, inboxKeyOf(emailKey)));
  const invited = toInbox.filter(({ recipient }) => emailKeyOf(recipient) === emailKey).map(({ id }) => id);
  await tx.delete(mails).where(or(eq(mails.accountId, userId), inArray(mails.id, invited)));
}
