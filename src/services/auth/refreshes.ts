/**
 * Refreshing: a refresh token is used once and gives the next one of its family, which is the session. One that comes a second time
 * may have been stolen, so the family ends; only who repeats a lost call with the same idempotency key, soon, and before the
 * next token was used, gets that one again.
 */
import { eq, sql } from "drizzle-orm";
import { type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { audienceOf, issueAccessToken } from "./access-tokens.ts";
import { audit } from "./audit.ts";
import { writeMail } from "./mails.ts";
import { hashOf, nextRefreshToken } from "./refresh-tokens.ts";
import { accounts, refreshTokens, sessions } from "./schema.ts";
import type { AuthContext } from "./service.ts";
import { endSessions, isLiveSession, type Tokens } from "./sessions.ts";

/** How long after its first use a call may be repeated. */
const REPEAT_SECONDS = 10;
/** Most uses in a minute, of one family. */
const MOST_PER_MINUTE = 60;

interface Family {
  sessionId: string;
  userId: string;
  generation: number;
  isLive: boolean;
  authenticatedAt: number;
  endSeconds: number;
}

interface Use {
  number: number;
  isUsed: boolean;
  /** It may be repeated: used lately, with this idempotency key, and the next one is unused. */
  mayRepeat: boolean;
  /** Of the next one; null where there is none. */
  nextKeyId: string | null;
  /** Milliseconds until the family may be refreshed again; 0 if it may. */
  waitMs: number;
}

export interface RefreshInput {
  refreshToken: string;
  /** Empty for none. */
  idempotencyKey: string;
  audience: string;
}

/** New tokens for a refresh token. UNAUTHENTICATED, RESOURCE_EXHAUSTED / RATE_LIMITED, INVALID_ARGUMENT / UNKNOWN_AUDIENCE. */
export async function refresh(auth: AuthContext, scope: CallScope, input: RefreshInput): Promise<Tokens> {
  const audience = audienceOf(auth, input.audience);
  const { db, refreshKeys } = auth;
  const tokens = await transaction(
    db,
    async (tx) => {
      const family = await lockFamily(tx, auth, input.refreshToken);
      if (!family?.isLive) return undefined;
      const use = await findUse(tx, family, input);
      if (use.isUsed && !(use.mayRepeat && refreshKeys.has(use.nextKeyId!))) return endFamily(tx, auth, scope, family);
      // Told within the transaction: nothing was changed.
      if (!use.isUsed && use.waitMs > 0) throw tooOften(use.waitMs);
      const keyId = use.isUsed ? use.nextKeyId! : refreshKeys.newest;
      const place = { keyId, family: family.sessionId, number: use.number + 1 };
      const next = nextRefreshToken(refreshKeys, { ...place, token: input.refreshToken });
      const tokenSeconds = Math.min(auth.accessTokenSeconds, auth.sessionIdleSeconds);
      if (!use.isUsed)
        await useUp(tx, { family, number: use.number, next, keyId, idempotencyKey: input.idempotencyKey });
      await touch(tx, scope, family, tokenSeconds);
      const { userId, sessionId, generation, authenticatedAt, endSeconds } = family;
      const claims = { userId, sessionId, generation, authenticatedAt };
      const issued = issueAccessToken(auth, claims, { audience, endSeconds, tokenSeconds });
      return { userId, sessionId, refreshToken: next, ...issued };
    },
    { signal: scope.signal },
  );
  if (!tokens) throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
  return tokens;
}

/** Locks the account and the session, in this order; what it says of them is from after the lock. */
async function lockFamily(tx: Tx, auth: AuthContext, refreshToken: string): Promise<Family | undefined> {
  const [family] = await tx.execute<{ [Key in keyof Family]: Family[Key] }>(sql`
    select ${sessions.id} as "sessionId", ${sessions.accountId} as "userId", ${sessions.generation} as generation,
      ${accounts.status} = 'active' and ${accounts.generation} = ${sessions.generation}
        and ${isLiveSession(auth.sessionIdleSeconds)} as "isLive",
      floor(extract(epoch from ${sessions.createdAt}))::float8 as "authenticatedAt",
      floor(extract(epoch from ${sessions.expiresAt}))::float8 as "endSeconds"
    from ${refreshTokens}
      join ${sessions} on ${sessions.id} = ${refreshTokens.sessionId}
      join ${accounts} on ${accounts.id} = ${sessions.accountId}
    where ${refreshTokens.tokenHash} = ${hashOf(refreshToken)}
    for share of ${accounts} for no key update of ${sessions}`);
  return family;
}

/** In a statement after the lock, which sees what the one before has done. */
async function findUse(tx: Tx, { sessionId }: Family, { refreshToken, idempotencyKey }: RefreshInput): Promise<Use> {
  const keyHash = idempotencyKey === "" ? null : hashOf(idempotencyKey);
  const [use] = await tx.execute<{ [Key in keyof Use]: Use[Key] }>(sql`
    select t.number, t.used_at is not null as "isUsed",
      coalesce(t.idempotency_key_hash = ${keyHash}::bytea and n.used_at is null
        and t.used_at > concierge_now() - make_interval(secs => ${REPEAT_SECONDS}), false) as "mayRepeat",
      n.key_id as "nextKeyId",
      greatest(0, coalesce(extract(epoch from earlier.used_at + interval '1 minute' - concierge_now()) * 1000, 0))::float8
        as "waitMs"
    from ${refreshTokens} t
      left join ${refreshTokens} n on n.session_id = t.session_id and n.number = t.number + 1
      left join ${refreshTokens} earlier on earlier.session_id = t.session_id and earlier.number = t.number - ${MOST_PER_MINUTE}
    where t.session_id = ${sessionId} and t.token_hash = ${hashOf(refreshToken)}`);
  return use!;
}

async function useUp(
  tx: Tx,
  use: { family: Family; number: number; next: string; keyId: string; idempotencyKey: string },
): Promise<void> {
  const { family, number, next, keyId, idempotencyKey } = use;
  const keyHash = idempotencyKey === "" ? null : hashOf(idempotencyKey);
  await tx.execute(sql`
    with used as (
      update ${refreshTokens} set used_at = concierge_now(), idempotency_key_hash = ${keyHash}::bytea
      where session_id = ${family.sessionId} and number = ${number}
    )
    insert into ${refreshTokens} (session_id, number, token_hash, key_id)
    values (${family.sessionId}, ${number + 1}, ${hashOf(next)}, ${keyId})`);
}

async function touch(tx: Tx, { origin }: CallScope, { sessionId }: Family, tokenSeconds: number): Promise<void> {
  const tokensExpireAt = sql`greatest(${sessions.tokensExpireAt}, concierge_now() + make_interval(secs => ${tokenSeconds}))`;
  await tx
    .update(sessions)
    .set({ lastUsedAt: sql`concierge_now()`, tokensExpireAt, address: origin.address, userAgent: origin.userAgent })
    .where(eq(sessions.id, sessionId));
}

async function endFamily(
  tx: Tx,
  { mailing }: AuthContext,
  scope: CallScope,
  { sessionId, userId }: Family,
): Promise<undefined> {
  await emit(tx, await endSessions(tx, eq(sessions.id, sessionId), "refresh_token_reused"));
  await writeMail(tx, mailing, scope, { kind: "refresh_token_reused", accountId: userId });
  const refused = { action: "refresh_token_reused", outcome: "refused", accountId: userId, sessionId } as const;
  await audit(tx, scope, refused);
}

function tooOften(retryAfterMs: number) {
  const message = "the session was refreshed too often, try again later";
  return fail(Code.ResourceExhausted, "RATE_LIMITED", message, { retryAfterMs });
}
