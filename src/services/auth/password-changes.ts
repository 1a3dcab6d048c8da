/** Changing a password: what was let in with the old one goes out. */
import { eq } from "drizzle-orm";
import { during, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { AUDIENCE } from "../../token/access-token.ts";
import { lockActiveAccount } from "./accounts.ts";
import { type AuditAction, audit } from "./audit.ts";
import { badCredentials } from "./logins.ts";
import { writeMail } from "./mails.ts";
import { credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions, startSession, type Tokens } from "./sessions.ts";

/**
 * Replaces the caller's password, ends all of the account's sessions, and starts a new one for the caller. UNAUTHENTICATED /
 * BAD_CREDENTIALS for a wrong current password, and for one that was changed meanwhile.
 */
export async function changePassword(
  auth: AuthContext,
  scope: CallScope,
  { userId }: Person,
  { currentPassword: password, newPassword }: { currentPassword: string; newPassword: string },
): Promise<Tokens> {
  const { db, passwords, mailing } = auth;
  const { signal } = scope;
  const version = await requirePassword(auth, scope, { userId, password, action: "password_changed" });
  const passwordHash = await passwords.hash(newPassword, signal);
  return transaction(
    db,
    async (tx) => {
      const account = await lockActiveAccount(tx, userId);
      if (account?.version !== version) throw badCredentials();
      const changed = { passwordHash, version: version + 1 };
      await tx.update(credentials).set(changed).where(eq(credentials.accountId, userId));
      const { generation, events } = await endAllSessions(tx, userId, "password_changed");
      const started = await startSession(tx, auth, scope, { userId, generation, audience: AUDIENCE });
      await emit(tx, [...events, ...started.events]);
      await writeMail(tx, mailing, scope, { kind: "password_changed", accountId: userId });
      const { sessionId } = started.tokens;
      await audit(tx, scope, { action: "password_changed", accountId: userId, sessionId });
      return started.tokens;
    },
    { signal },
  );
}

/**
 * Lets only who knows an account's password do something. Returns the credential's version, to be compared under the
 * lock. UNAUTHENTICATED / BAD_CREDENTIALS.
 */
export async function requirePassword(
  { db, passwords }: AuthContext,
  scope: CallScope,
  { userId, password, action }: { userId: string; password: string; action: AuditAction },
): Promise<number> {
  const { signal } = scope;
  const [found] = await during(db, signal)
    .select({ passwordHash: credentials.passwordHash, version: credentials.version })
    .from(credentials)
    .where(eq(credentials.accountId, userId));
  if ((await passwords.verify(found?.passwordHash, password, signal)) && found) return found.version;
  const refusal = { action, outcome: "refused", reason: "bad_credentials", accountId: userId } as const;
  await audit(during(db, signal), scope, refusal);
  throw badCredentials();
}
