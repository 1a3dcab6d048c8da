/**
 * Sessions: from a login to its end. A session is live while it has neither ended nor expired, was used lately, and its account
 * is active and still of the generation that it started with; integers decide, not clocks of two machines. Whoever starts,
 * refreshes or ends sessions of an account holds the lock on its row, so nothing slips in between.
 */
import { and, desc, eq, inArray, isNull, ne, type SQL, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import type { Db, Tx } from "../../db/database.ts";
import { during, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import type { SessionQuestion } from "../../token/session-check.ts";
import { type AccessToken, endOfToken, issueAccessToken } from "./access-tokens.ts";
import { audit } from "./audit.ts";
import { sessionEnded, sessionStarted } from "./events.ts";
import { firstRefreshToken, hashOf } from "./refresh-tokens.ts";
import { accounts, type END_REASONS, refreshTokens, sessions } from "./schema.ts";
import type { AuthContext } from "./service.ts";

export type EndReason = (typeof END_REASONS)[number];

/** A session with the tokens that its client has just got. */
export interface Tokens extends AccessToken {
  userId: string;
  sessionId: string;
  refreshToken: string;
}

/** What a session is started for. */
export interface NewSession {
  userId: string;
  /** The account's, as the statement that locked it has read it. */
  generation: number;
  /** Of the access token, as is the organization. */
  audience: string;
  organizationId: string | undefined;
}

/**
 * Starts a session of an account whose row is locked, and ends the oldest ones beyond the most that an account may have. The
 * events are to be published by the caller.
 */
export async function startSession(
  tx: Tx,
  auth: AuthContext,
  scope: CallScope,
  { userId, generation, audience, organizationId }: NewSession,
): Promise<{ tokens: Tokens; events: OutboxEvent[] }> {
  const { origin } = scope;
  const sessionId = uuidv7();
  const refreshToken = firstRefreshToken();
  const { sessionSeconds, sessionIdleSeconds, sessionsPerUser } = auth;
  const tokenSeconds = Math.min(auth.accessTokenSeconds, sessionSeconds, sessionIdleSeconds);
  const [started] = await tx.execute<{ endSeconds: number; live: number }>(sql`
    with session as (
      insert into ${sessions} (id, account_id, generation, user_agent, address, expires_at, tokens_expire_at)
      values (${sessionId}, ${userId}, ${generation}, ${origin.userAgent}, ${origin.address},
        concierge_now() + make_interval(secs => ${sessionSeconds}), concierge_now() + make_interval(secs => ${tokenSeconds}))
      returning id, expires_at
    ), token as (
      insert into ${refreshTokens} (session_id, number, token_hash) select id, 1, ${hashOf(refreshToken)}::bytea from session
    )
    select floor(extract(epoch from expires_at))::float8 as "endSeconds",
      (select count(*)::integer from ${sessions} where account_id = ${userId} and ended_at is null) as live
    from session`);
  const { endSeconds, live } = started!;
  // Those that have expired are among them, which only makes the second look.
  const excess = live < sessionsPerUser ? [] : await endExcess(tx, scope, userId, sessionsPerUser);
  const now = Math.floor(auth.clock.now() / 1_000);
  const expiresAt = endOfToken(auth, { endSeconds, tokenSeconds });
  const claims = { userId, sessionId, organizationId, generation, authenticatedAt: now, expiresAt };
  return {
    tokens: { userId, sessionId, refreshToken, ...issueAccessToken(auth, auth.ownKeys.signer, claims, audience) },
    events: [sessionStarted({ sessionId, userId }), ...excess],
  };
}

/** Of the live ones. */
async function endExcess(tx: Tx, scope: CallScope, userId: string, most: number): Promise<OutboxEvent[]> {
  const excess = tx
    .select({ id: sessions.id })
    .from(sessions)
    .where(and(eq(sessions.accountId, userId), isNull(sessions.endedAt), sql`${sessions.expiresAt} > concierge_now()`))
    .orderBy(desc(sessions.createdAt), desc(sessions.id))
    .offset(most);
  const events = await endSessions(tx, inArray(sessions.id, excess), "too_many_sessions");
  if (events.length === 0) return [];
  await audit(tx, scope, { action: "sessions_ended", reason: "too_many_sessions", accountId: userId });
  return events;
}

/** Ends the sessions that a condition names and that have not ended yet. The events are to be published by the caller. */
export async function endSessions(tx: Tx, which: SQL | undefined, endReason: EndReason): Promise<OutboxEvent[]> {
  const ended = await tx
    .update(sessions)
    .set({ endedAt: sql`concierge_now()`, endReason })
    .where(and(which, isNull(sessions.endedAt)))
    .returning({ sessionId: sessions.id, userId: sessions.accountId, tokensExpireAt: sessions.tokensExpireAt });
  return ended.map(sessionEnded);
}

/**
 * Ends every session of an account, and those that are being started without the lock on its row: they have an older generation.
 * Returns the new one.
 */
export async function endAllSessions(
  tx: Tx,
  userId: string,
  endReason: EndReason,
): Promise<{ generation: number; events: OutboxEvent[] }> {
  const [raised] = await tx
    .update(accounts)
    .set({ generation: sql`${accounts.generation} + 1` })
    .where(eq(accounts.id, userId))
    .returning({ generation: accounts.generation });
  return { generation: raised!.generation, events: await endSessions(tx, eq(sessions.accountId, userId), endReason) };
}

/** The live sessions of the person who calls, the newest first. */
export async function listSessions({ db, sessionIdleSeconds }: AuthContext, { signal }: CallScope, person: Person) {
  const found = await during(db, signal)
    .select()
    .from(sessions)
    .where(and(eq(sessions.accountId, person.userId), isLiveSession(sessionIdleSeconds)))
    .orderBy(desc(sessions.createdAt), desc(sessions.id));
  return found.map((session) => ({ ...session, current: session.id === person.sessionId }));
}

/** Ends one of the caller's sessions. NOT_FOUND / SESSION_NOT_FOUND. */
export async function endSession(db: Db, scope: CallScope, person: Person, sessionId: string): Promise<void> {
  await transaction(
    db,
    async (tx) => {
      const own = and(eq(sessions.id, sessionId), eq(sessions.accountId, person.userId));
      const events = await endSessions(tx, own, "ended_by_user");
      if (events.length === 0) return requireSession(tx, own);
      await emit(tx, events);
      await audit(tx, scope, { action: "session_ended", accountId: person.userId, sessionId });
    },
    { signal: scope.signal },
  );
}

async function requireSession(tx: Tx, own: SQL | undefined): Promise<void> {
  const found = await tx.select({ id: sessions.id }).from(sessions).where(own);
  if (found.length === 0) throw fail(Code.NotFound, "SESSION_NOT_FOUND", "there is no such session");
}

/** Ends the caller's sessions but the one that calls; returns how many. */
export async function endOtherSessions(db: Db, scope: CallScope, { userId, sessionId }: Person): Promise<number> {
  return transaction(
    db,
    async (tx) => {
      // A login that is under way comes before this, and is ended, or after it.
      await tx.select({ id: accounts.id }).from(accounts).where(eq(accounts.id, userId)).for("no key update");
      const others = and(eq(sessions.accountId, userId), ne(sessions.id, sessionId));
      const events = await endSessions(tx, others, "ended_by_user");
      await emit(tx, events);
      if (events.length > 0) await audit(tx, scope, { action: "sessions_ended", accountId: userId });
      return events.length;
    },
    { signal: scope.signal },
  );
}

/** Ends the session that a refresh token belongs to. An unknown token and a session that has ended change nothing. */
export async function logout(db: Db, scope: CallScope, refreshToken: string): Promise<void> {
  await transaction(
    db,
    async (tx) => {
      const [token] = await tx
        .select({ sessionId: refreshTokens.sessionId, accountId: sessions.accountId })
        .from(refreshTokens)
        .innerJoin(sessions, eq(sessions.id, refreshTokens.sessionId))
        .where(eq(refreshTokens.tokenHash, hashOf(refreshToken)));
      if (!token) return;
      const events = await endSessions(tx, eq(sessions.id, token.sessionId), "logout");
      if (events.length === 0) return;
      await emit(tx, events);
      await audit(tx, scope, { action: "session_ended", reason: "logout", ...token });
    },
    { signal: scope.signal },
  );
}

/** Live as far as the session itself is concerned; its account is another question. */
export function isLiveSession(idleSeconds: number): SQL {
  return sql`(${sessions.endedAt} is null and ${sessions.expiresAt} > concierge_now()
    and ${sessions.lastUsedAt} > concierge_now() - make_interval(secs => ${idleSeconds}))`;
}

/**
 * Makes the question "may this session still be used?", which others ask when they cannot know it by themselves. A standby does not
 * answer it: what it knows may be old.
 */
export function createSessionQuery(db: Db, idleSeconds: number): SessionQuestion {
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
          eq(accounts.status, "active"),
          isLiveSession(idleSeconds),
        ),
      );
    return found.length === 1;
  };
}
