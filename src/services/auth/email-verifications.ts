/**
 * E-mail addresses: proving one with a mailed link, and changing to another. The link alone is not enough, it takes the
 * account's password, too: else whoever registers the address of somebody else would only have to wait until its owner
 * follows the link, and a mistyped new address would give the account away.
 */
import { and, eq, ne, sql } from "drizzle-orm";
import { during, type Tx, transaction } from "../../db/database.ts";
import { constraintOf } from "../../db/errors.ts";
import { emailKeyOf } from "../../emails.ts";
import { Code, fail } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { lockActiveAccount } from "./accounts.ts";
import { audit } from "./audit.ts";
import { checkCurrentPassword, withCheckedPassword } from "./current-passwords.ts";
import { accountEmailChanged } from "./events.ts";
import { badMailToken, findMailToken, type MailToken, requireMailing, spendMailToken, writeMail } from "./mails.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions } from "./sessions.ts";

/**
 * Verifies the address that a token was mailed to, and makes it the account's if it was asked for as a new one.
 * Sessions from before the first proof end. INVALID_ARGUMENT / BAD_MAIL_TOKEN, UNAUTHENTICATED / BAD_CREDENTIALS.
 */
export async function verifyEmail(
  auth: AuthContext,
  scope: CallScope,
  { token, password }: { token: string; password: string },
): Promise<void> {
  const { db } = auth;
  const { signal } = scope;
  const mail = await findMailToken(during(db, signal), token, ["verify_email", "change_email"]);
  const { accountId } = mail;
  // Whoever has the link may be a stranger: a mistyped address is one.
  const asked = { userId: accountId, password, action: "email_verified", isKnown: false } as const;
  const { version } = await checkCurrentPassword(auth, scope, asked);
  try {
    await transaction(
      db,
      async (tx) => {
        const account = await lockActiveAccount(tx, accountId);
        if (account?.version !== version) throw badMailToken();
        await spendMailToken(tx, mail.mailId, version);
        const changed = mail.kind === "change_email" ? await changeAddress(tx, mail, version) : [];
        const ended = account.isVerified ? [] : await verifyFirst(tx, accountId);
        await emit(tx, [...changed, ...ended]);
        const action = mail.kind === "change_email" ? "email_changed" : "email_verified";
        await audit(tx, scope, { action, accountId });
      },
      { signal },
    );
  } catch (error) {
    // Somebody else has it by now.
    if (constraintOf(error) === "accounts_email_key") throw badMailToken();
    throw error;
  }
}

async function changeAddress(tx: Tx, { accountId, recipient }: MailToken, version: number): Promise<OutboxEvent[]> {
  const address = { email: recipient, emailKey: emailKeyOf(recipient) };
  await tx.update(accounts).set(address).where(eq(accounts.id, accountId));
  // Links that were mailed to the old address are dead.
  await tx
    .update(credentials)
    .set({ version: version + 1 })
    .where(eq(credentials.accountId, accountId));
  return [accountEmailChanged({ userId: accountId, email: recipient })];
}

async function verifyFirst(tx: Tx, accountId: string): Promise<OutboxEvent[]> {
  await tx.update(accounts).set({ emailVerifiedAt: sql`concierge_now()` }).where(eq(accounts.id, accountId));
  return (await endAllSessions(tx, accountId, "email_verified")).events;
}

/**
 * Mails a link to the new address, and a notice to the old one. Whether somebody else has the new one is told to them
 * only. UNAUTHENTICATED / BAD_CREDENTIALS, RESOURCE_EXHAUSTED / RATE_LIMITED, FAILED_PRECONDITION / MAIL_DISABLED.
 */
export async function changeEmail(
  auth: AuthContext,
  scope: CallScope,
  { userId }: Person,
  { newEmail, currentPassword: password }: { newEmail: string; currentPassword: string },
): Promise<void> {
  const { mailing } = auth;
  requireMailing(mailing);
  const checked = await checkCurrentPassword(auth, scope, { userId, password, action: "email_change_asked" });
  await withCheckedPassword(auth, scope, checked, async (tx) => {
    // The one that is always written is the one that is counted: the limit tells nothing of the new address either.
    const isTold = await writeMail(tx, mailing, scope, { kind: "email_change_asked", accountId: userId });
    if (!isTold) throw tooOften();
    const [owner] = await tx
      .select({ id: accounts.id })
      .from(accounts)
      .where(and(eq(accounts.emailKey, emailKeyOf(newEmail)), ne(accounts.id, userId)));
    if (owner) await writeMail(tx, mailing, scope, { kind: "address_taken", accountId: owner.id });
    else await writeMail(tx, mailing, scope, { kind: "change_email", accountId: userId, recipient: newEmail });
    await audit(tx, scope, { action: "email_change_asked", accountId: userId });
  });
  mailing.alarm.ring();
}

function tooOften() {
  return fail(Code.ResourceExhausted, "RATE_LIMITED", "the address was changed too often, try again later");
}
