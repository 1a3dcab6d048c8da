/** Changing a password: what was let in with the old one goes out. */
import { eq, sql } from "drizzle-orm";
import { during, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { AUDIENCE } from "../../token/access-token.ts";
import { badCredentials, checkPassword } from "./attempts.ts";
import { audit } from "./audit.ts";
import { accounts, credentials } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endAllSessions, startSession, type Tokens } from "./sessions.ts";

/**
 * Replaces the caller's password, ends all of the account's sessions, and starts a new one for the caller. UNAUTHENTICATED /
 * BAD_CREDENTIALS for a wrong current password, and for one that was changed meanwhile; RESOURCE_EXHAUSTED / TOO_MANY_ATTEMPTS.
 */
export async function changePassword(
  auth: AuthContext,
  scope: CallScope,
  { userId }: Person,
  { currentPassword, newPassword }: { currentPassword: string; newPassword: string },
): Promise<Tokens> {
  const { db, passwords } = auth;
  const { signal } = scope;
  const [own] = await during(db, signal)
    .select({
      emailKey: accounts.emailKey,
      passwordHash: credentials.passwordHash,
      version: credentials.version,
    })
    .from(credentials)
    .innerJoin(accounts, eq(accounts.id, credentials.accountId))
    .where(eq(credentials.accountId, userId));
  const attempt = { action: "password_changed", accountId: userId } as const;
  if (!own) throw await badCredentials(db, scope, attempt);
  const claim = { ...attempt, emailKey: own.emailKey, isKnown: true, credential: own };
  const found = await checkPassword(auth, scope, claim, currentPassword);
  const passwordHash = await passwords.hash(newPassword, signal);
  const tokens = await transaction(
    db,
    async (tx) => {
      const [account] = await tx.execute(sql`
        select 1 from ${accounts} join ${credentials} on ${credentials.accountId} = ${accounts.id}
        where ${accounts.id} = ${userId} and ${accounts.status} = 'active' and ${credentials.version} = ${found.version}
        for no key update of ${accounts} for no key update of ${credentials}`);
      if (!account) return undefined;
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
  if (!tokens) throw await badCredentials(db, scope, attempt);
  return tokens;
}
