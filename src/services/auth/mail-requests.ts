/**
 * Mails that anybody may ask for, by an address. Whether it belongs to an account makes no difference to the answer,
 * nor to the work.
 */
import { and, eq, isNull, sql } from "drizzle-orm";
import { transaction } from "../../db/database.ts";
import type { CallScope } from "../../rpc/call.ts";
import { emailKeyOf } from "./accounts.ts";
import { takeAnonymousCall } from "./attempts.ts";
import { audit } from "./audit.ts";
import { writeMail } from "./mails.ts";
import { accounts } from "./schema.ts";
import type { AuthContext } from "./service.ts";

/** Another link to verify an address that is not verified yet. RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS. */
export async function resendVerification(auth: AuthContext, scope: CallScope, email: string): Promise<void> {
  await request(auth, scope, { email, kind: "verify_email", action: "verification_asked" });
}

/** A link to choose a new password with. RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS. */
export async function requestPasswordReset(auth: AuthContext, scope: CallScope, email: string): Promise<void> {
  await request(auth, scope, { email, kind: "reset_password", action: "password_reset_asked" });
}

async function request(
  auth: AuthContext,
  scope: CallScope,
  asked: { email: string } & (
    | { kind: "verify_email"; action: "verification_asked" }
    | { kind: "reset_password"; action: "password_reset_asked" }
  ),
): Promise<void> {
  const { db, mailing } = auth;
  const { email, kind, action } = asked;
  if (!mailing.isOn) return;
  await takeAnonymousCall(auth, scope, action);
  const isMeant = and(
    eq(accounts.emailKey, emailKeyOf(email)),
    eq(accounts.status, "active"),
    kind === "verify_email" ? isNull(accounts.emailVerifiedAt) : undefined,
  );
  await transaction(
    db,
    async (tx) => {
      // One request of a kind at a time, so that their number is right; who finds one under way writes none, instead of
      // waiting for longer than for nobody's.
      const isFirst = sql`pg_try_advisory_xact_lock(hashtextextended(${kind} || ${accounts.id}::text, 0))`;
      const [account] = await tx.select({ id: accounts.id }).from(accounts).where(and(isMeant, isFirst));
      // Nobody's, where there is no account: the same statement, which then writes none.
      const isWritten = await writeMail(tx, mailing, scope, { kind, accountId: account?.id ?? crypto.randomUUID() });
      const refusal = isWritten ? {} : ({ outcome: "refused", reason: "no_mail" } as const);
      await audit(tx, scope, { action, accountId: account?.id, ...refusal });
    },
    { signal: scope.signal },
  );
  mailing.alarm.ring();
}
