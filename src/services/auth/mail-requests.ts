/**
 * Mails that anybody may ask for, by an address. Whether it belongs to an account makes no difference to the answer, nor to
 * the work: the call only stores what was asked for. A job decides soon after whether a mail is written, each request in a
 * transaction of its own that also takes it away: so it is answered once, whoever dies in between.
 */
import { and, asc, eq, isNull, not, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { type Db, during, type Tx, transaction } from "../../db/database.ts";
import { emailKeyOf } from "../../emails.ts";
import type { CallScope } from "../../rpc/call.ts";
import { takeAnonymousCall } from "./attempts.ts";
import { audit } from "./audit.ts";
import { type Mailing, writeMail } from "./mails.ts";
import { accounts, mailRequests } from "./schema.ts";
import type { AuthContext } from "./service.ts";

type MailRequest = typeof mailRequests.$inferSelect;

const ACTIONS = { verify_email: "verification_asked", reset_password: "password_reset_asked" } as const;
/** One that has failed, or whose process has died, is tried again so much later. Until then it is in nobody's way. */
const LEASE_SECONDS = 30;

/** Nobody waits for its mail any more. */
export const isStaleRequest = sql`${mailRequests.askedAt} < (select concierge_now()) - interval '1 hour'`;

/** Another link to verify an address that is not verified yet. RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS. */
export async function resendVerification(auth: AuthContext, scope: CallScope, email: string): Promise<void> {
  await request(auth, scope, "verify_email", email);
}

/** A link to choose a new password with. RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS. */
export async function requestPasswordReset(auth: AuthContext, scope: CallScope, email: string): Promise<void> {
  await request(auth, scope, "reset_password", email);
}

async function request(auth: AuthContext, scope: CallScope, kind: MailRequest["kind"], email: string): Promise<void> {
  const { db, mailing } = auth;
  if (!mailing.isOn) return;
  await takeAnonymousCall(auth, scope, ACTIONS[kind]);
  const asked = { id: uuidv7(), kind, emailKey: emailKeyOf(email), ...scope.origin };
  await during(db, scope.signal).insert(mailRequests).values(asked);
  mailing.requestAlarm.ring();
}

/** Decides about what was asked for, one after the other. What fails stays for later, and is told once the others are done. */
export async function answerMailRequests(
  { db, mailing }: { db: Db; mailing: Mailing },
  signal: AbortSignal,
): Promise<void> {
  const failures: unknown[] = [];
  while (!signal.aborted) {
    const taken = await takeRequest(db);
    if (!taken) break;
    try {
      await transaction(db, (tx) => answer(tx, mailing, taken));
      mailing.alarm.ring();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** Takes one whose time has come, for a while. What another process takes at this moment is passed over. */
async function takeRequest(db: Db): Promise<MailRequest | undefined> {
  const first = db
    .select({ id: mailRequests.id })
    .from(mailRequests)
    .where(and(sql`${mailRequests.nextAttemptAt} <= (select concierge_now())`, not(isStaleRequest)))
    .orderBy(asc(mailRequests.nextAttemptAt))
    .limit(1)
    .for("update", { skipLocked: true });
  const [taken] = await db
    .update(mailRequests)
    .set({ nextAttemptAt: sql`concierge_now() + make_interval(secs => ${LEASE_SECONDS})` })
    .where(sql`${mailRequests.id} = (${first})`)
    .returning();
  return taken;
}

async function answer(tx: Tx, mailing: Mailing, { id, kind, emailKey, ...origin }: MailRequest): Promise<void> {
  const isMeant = and(
    eq(accounts.emailKey, emailKey),
    eq(accounts.status, "active"),
    kind === "verify_email" ? isNull(accounts.emailVerifiedAt) : undefined,
  );
  // Locked, so that of several at once each sees the mails of those before it.
  const [account] = await tx.select({ id: accounts.id }).from(accounts).where(isMeant).for("no key update");
  const [open] = await tx.delete(mailRequests).where(eq(mailRequests.id, id)).returning({ id: mailRequests.id });
  if (!open) return;
  const scope = { caller: { kind: "anonymous" }, origin } as const;
  const isWritten = account !== undefined && (await writeMail(tx, mailing, scope, { kind, accountId: account.id }));
  const refusal = isWritten ? {} : ({ outcome: "refused", reason: "no_mail" } as const);
  await audit(tx, scope, { action: ACTIONS[kind], accountId: account?.id, ...refusal });
}
