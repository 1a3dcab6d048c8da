/** Changing a password: what was let in with the old one goes out. */
import { eq } from "drizzle-orm";
import { emit } from "../../feed/emit.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { AUDIENCE } from "../../token/access-token.ts";
import { ownWordsOf } from "./accounts.ts";
import { keepOrganization } from "./active-organizations.ts";
import { audit } from "./audit.ts";
import { checkCurrentPassword, withCheckedPassword } from "./current-passwords.ts";
import { forgetDevices, renewDevice } from "./devices.ts";
import { writeMail } from "./mails.ts";
import { credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions, startSession, type Tokens } from "./sessions.ts";

/**
 * Replaces the caller's password, ends all of the account's sessions, and starts a new one for the caller. UNAUTHENTICATED /
 * BAD_CREDENTIALS for a wrong current password, and for one that was changed meanwhile; RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS; the
 * refusals of Passwords.hash() for the new one.
 */
export async function changePassword(
  auth: AuthContext,
  scope: CallScope,
  { userId, organizationId: active }: Person,
  { currentPassword: password, newPassword }: { currentPassword: string; newPassword: string },
): Promise<Tokens & { deviceToken: string }> {
  const checked = await checkCurrentPassword(auth, scope, { userId, password, action: "password_changed" });
  const passwordHash = await auth.passwords.hash(newPassword, ownWordsOf(checked.account), scope.signal);
  const organizationId = await keepOrganization(auth, userId, active);
  return withCheckedPassword(auth, scope, checked, async (tx) => {
    const changed = { passwordHash, version: checked.version + 1 };
    await tx.update(credentials).set(changed).where(eq(credentials.accountId, userId));
    const { generation, events } = await endAllSessions(tx, userId, "password_changed");
    const session = { userId, generation, audience: AUDIENCE, organizationId };
    const started = await startSession(tx, auth, scope, session);
    await emit(tx, [...events, ...started.events]);
    await writeMail(tx, auth.mailing, scope, { kind: "password_changed", accountId: userId });
    const { sessionId } = started.tokens;
    await audit(tx, scope, { action: "password_changed", accountId: userId, sessionId });
    // Whoever has logged in with the old one is known no more.
    await forgetDevices(tx, userId);
    return { ...started.tokens, deviceToken: await renewDevice(tx, userId, "") };
  });
}
