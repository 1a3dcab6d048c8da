/** Changing a password: what was let in with the old one goes out. */
import { eq, sql } from "drizzle-orm";
import { during, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { AUDIENCE } from "../../token/access-token.ts";
import { ownWordsOf } from "./accounts.ts";
import { audit } from "./audit.ts";
import { badCredentials } from "./logins.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions, startSession, type Tokens } from "./sessions.ts";

/**
 * Replaces the caller's password, ends all of the account's sessions, and starts a new one for the caller. UNAUTHENTICATED /
 * BAD_CREDENTIALS for a wrong current password, and for one that was changed meanwhile; the refusals of
 * Passwords.hash() for the new one.
 */
export async function changePassword(
  auth: AuthContext,
  scope: CallScope,
  { userId }: Person,
  { currentPassword, newPassword }: { currentPassword: string; newPassword: string },
): Promise<Tokens> {
  const { db, passwords } = auth;
  const { signal } = scope;
  const [found] = await during(db, signal)
    .select({ passwordHash: credentials.passwordHash, version: credentials.version, account: accounts })
    .from(credentials)
    .innerJoin(accounts, eq(accounts.id, credentials.accountId))
    .where(eq(credentials.accountId, userId));
  if (!(await passwords.verify(found?.passwordHash, currentPassword, signal)) || !found) {
    const reason = "bad_credentials";
    const entry = { action: "password_changed", outcome: "refused", reason, accountId: userId } as const;
    await audit(during(db, signal), scope, entry);
    throw badCredentials();
  }
  const passwordHash = await passwords.hash(newPassword, ownWordsOf(found.account), signal);
  return transaction(
    db,
    async (tx) => {
      const [account] = await tx.execute(sql`
        select 1 from ${accounts} join ${credentials} on ${credentials.accountId} = ${accounts.id}
        where ${accounts.id} = ${userId} and ${accounts.status} = 'active' and ${credentials.version} = ${found.version}
        for no key update of ${accounts} for no key update of ${credentials}`);
      if (!account) throw badCredentials();
      const changed = { passwordHash, version: found.version + 1 };
      await tx.update(credentials).set(changed).where(eq(credentials.accountId, userId));
      const { generation, events } = await endAllSessions(tx, userId, "password_changed");
      const started = await startSession(tx, auth, scope, { userId, generation, audience: AUDIENCE });
      await emit(tx, [...events, ...started.events]);
      const { sessionId } = started.tokens;
      await audit(tx, scope, { action: "password_changed", accountId: userId, sessionId });
      return started.tokens;
    },
    { signal },
  );
}
