/**
 * Sessions: from a login to its end. A session is live while it has not ended or expired and its account's generation is
 * still the one it started with; integers decide, not clocks of two machines.
 */
import { createHash, randomBytes } from "node:crypto";
import { and, eq, isNull, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import type { Db, Tx } from "../../db/database.ts";
import { during, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { signAccessToken } from "../../token/access-token.ts";
import type { SessionQuestion } from "../../token/session-check.ts";
import { emailKeyOf } from "./accounts.ts";
import { sessionEnded, sessionStarted } from "./events.ts";
import { accounts, credentials, refreshTokens, sessions } from "./schema.ts";
import type { AuthContext } from "./service.ts";

const REFRESH_TOKEN_BYTES = 32;

export interface StartedSession {
  userId: string;
  sessionId: string;
  accessToken: string;
  accessTokenExpiresAt: Date;
  refreshToken: string;
}

/**
 * Starts a session from e-mail and password. An unknown account, a wrong password, and a password that was changed while
 * this one was being checked all get the same answer.
 */
export async function login(
  auth: AuthContext,
  { signal }: CallScope,
  { email, password }: { email: string; password: string },
): Promise<StartedSession> {
  const { db, passwords } = auth;
  const [found] = await during(db, signal)
    .select({ userId: accounts.id, passwordHash: credentials.passwordHash, version: credentials.version })
    .from(accounts)
    .innerJoin(credentials, eq(credentials.accountId, accounts.id))
    .where(eq(accounts.emailKey, emailKeyOf(email)));
  const fits = await passwords.verify(found?.passwordHash, password, signal);
  if (!found || !fits) throw badCredentials();
  const newHash = passwords.isOutdated(found.passwordHash) ? await passwords.rehash(password, signal) : undefined;
  return transaction(
    db,
    async (tx) => {
      const session = await startSession(tx, auth, found, newHash !== undefined);
      if (!session) throw badCredentials();
      if (newHash) await replaceHash(tx, found, newHash);
      return session;
    },
    { signal },
  );
}

/** Locks and rechecks the credential in the statement that makes the session, so no change slips in between. */
async function startSession(
  tx: Tx,
  auth: AuthContext,
  { userId, version }: { userId: string; version: number },
  willRehash: boolean,
): Promise<StartedSession | undefined> {
  const sessionId = uuidv7();
  // A lock that is raised later deadlocks with another login that raises its own.
  const lock = willRehash ? sql`for share of a for update of c` : sql`for share of a, c`;
  const [started] = await tx.execute<{ generation: number; endSeconds: number }>(sql`
    with account as (
      select a.id, a.generation from ${accounts} a join ${credentials} c on c.account_id = a.id
      where a.id = ${userId} and c.version = ${version} ${lock})
    insert into ${sessions} (id, account_id, generation, expires_at, tokens_expire_at)
    select ${sessionId}::uuid, id, generation, concierge_now() + make_interval(secs => ${auth.sessionSeconds}),
      concierge_now() + make_interval(secs => ${Math.min(auth.accessTokenSeconds, auth.sessionSeconds)})
    from account returning generation, floor(extract(epoch from expires_at))::float8 as "endSeconds"`);
  if (!started) return undefined;
  const refreshToken = randomBytes(REFRESH_TOKEN_BYTES).toString("base64url");
  await tx.insert(refreshTokens).values({ sessionId, number: 1, tokenHash: hashOf(refreshToken) });
  await emit(tx, [sessionStarted({ sessionId, userId })]);
  const nowSeconds = Math.floor(auth.clock.now() / 1000);
  const { generation, endSeconds } = started;
  // Whoever decides about a token without asking us goes by its end alone.
  const expiresAt = Math.min(nowSeconds + auth.accessTokenSeconds, endSeconds);
  const claims = { userId, sessionId, generation, authenticatedAt: nowSeconds, expiresAt };
  return {
    userId,
    sessionId,
    accessToken: signAccessToken(auth.signer, auth, claims),
    accessTokenExpiresAt: new Date(expiresAt * 1000),
    refreshToken,
  };
}

/** Stores a stronger hash of the same password; the row is locked, at the version that was verified. */
async function replaceHash(tx: Tx, { userId }: { userId: string }, passwordHash: string): Promise<void> {
  await tx.update(credentials).set({ passwordHash }).where(eq(credentials.accountId, userId));
}

/** Ends the session that a refresh token belongs to. An unknown token and a session that has ended change nothing. */
export async function logout(db: Db, { signal }: CallScope, refreshToken: string): Promise<void> {
  await transaction(
    db,
    async (tx) => {
      const [token] = await tx
        .select({ sessionId: refreshTokens.sessionId })
        .from(refreshTokens)
        .where(eq(refreshTokens.tokenHash, hashOf(refreshToken)));
      if (!token) return;
      const [ended] = await tx
        .update(sessions)
        .set({ endedAt: sql`concierge_now()` })
        .where(and(eq(sessions.id, token.sessionId), isNull(sessions.endedAt)))
        .returning({
          sessionId: sessions.id,
          userId: sessions.accountId,
          tokensExpireAt: sessions.tokensExpireAt,
        });
      if (ended) await emit(tx, [sessionEnded(ended)]);
    },
    { signal },
  );
}

/**
 * Makes the question "may this session still be used?", which others ask when they cannot know it by themselves. A standby does not
 * answer it: what it knows may be old.
 */
export function createSessionQuery(db: Db): SessionQuestion {
  return async (sessionId, generation, signal) => {
    const found = await during(db, signal)
      .select({ id: sessions.id })
      .from(sessions)
      .innerJoin(accounts, eq(accounts.id, sessions.accountId))
      .where(
        and(
          sql`concierge_on_primary()`,
          eq(sessions.id, sessionId),
          eq(sessions.generation, generation),
          eq(accounts.generation, sessions.generation),
          isNull(sessions.endedAt),
          sql`${sessions.expiresAt} > concierge_now()`,
        ),
      );
    return found.length === 1;
  };
}

function hashOf(refreshToken: string): Buffer {
  return createHash("sha256").update(refreshToken).digest();
}

function badCredentials() {
  return fail(Code.Unauthenticated, "BAD_CREDENTIALS", "e-mail or password is wrong");
}
