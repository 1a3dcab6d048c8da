/**
 * Mails that anybody may ask for, by an address. Whether it belongs to an account makes no difference to the answer,
 * nor to the work.
 */
import { and, eq, isNull } from "drizzle-orm";
import { transaction } from "../../db/database.ts";
import type { CallScope } from "../../rpc/call.ts";
import { emailKeyOf } from "./accounts.ts";
import { audit } from "./audit.ts";
import { writeMail } from "./mails.ts";
import { accounts } from "./schema.ts";
import type { AuthContext } from "./service.ts";

/** Another link to verify an address that is not verified yet. */
export async function resendVerification(auth: AuthContext, scope: CallScope, email: string): Promise<void> {
  await request(auth, scope, { email, kind: "verify_email", action: "verification_asked" });
}

/** A link to choose a new password with. */
export async function requestPasswordReset(auth: AuthContext, scope: CallScope, email: string): Promise<void> {
  await request(auth, scope, { email, kind: "reset_password", action: "password_reset_asked" });
}

async function request(
  { db, mailing }: AuthContext,
  scope: CallScope,
  asked: { email: string } & (
    | { kind: "verify_email"; action: "verification_asked" }
    | { kind: "reset_password"; action: "password_reset_asked" }
  ),
): Promise<void> {
  if (!mailing.isOn) return;
  const { email, kind, action } = asked;
  const isMeant = and(
    eq(accounts.emailKey, emailKeyOf(email)),
    eq(accounts.status, "active"),
    kind === "verify_email" ? isNull(accounts.emailVerifiedAt) : undefined,
  );
  await transaction(
    db,
    async (tx) => {
      // Locked, so that of many requests at once each sees the mails of those before it.
      const [account] = await tx.select({ id: accounts.id }).from(accounts).where(isMeant).for("no key update");
      // Nobody's, where there is no account: the same statement, which then writes none.
      await writeMail(tx, mailing, scope, { kind, accountId: account?.id ?? crypto.randomUUID() });
      await audit(tx, scope, { action, accountId: account?.id });
    },
    { signal: scope.signal },
  );
  mailing.alarm.ring();
}
