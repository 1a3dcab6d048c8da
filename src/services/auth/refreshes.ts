/**
 * Refreshing: a refresh token is used once and gives the next one of its family, which is the session. One that comes a second time
 * may have been stolen, so the family ends; only who repeats a lost call with the same idempotency key, soon, and before the
 * next token was used, gets that one again.
 */
import { and, eq, type SQL, sql } from "drizzle-orm";
import { during, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import type { AccessClaims } from "../../token/access-token.ts";
import { audienceOf, endOfToken, issueAccessToken } from "./access-tokens.ts";
import {
  chooseOrganization,
  keepOrganization,
  type OrganizationChoice,
  rememberOrganization,
} from "./active-organizations.ts";
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

/** A refresh token with its family, all of which is locked. */
interface Presented {
  sessionId: string;
  userId: string;
  generation: number;
  /** Whether the session and its account may be used. */
  isLive: boolean;
  authenticatedAt: number;
  endSeconds: number;
  /** The last organization that the account asked for. */
  last: string | null;
  number: number;
  isUsed: boolean;
  /** It was used lately, with the same idempotency key. */
  isRepeated: boolean;
  /** Milliseconds until the family may be refreshed again; 0 if it may. */
  waitMs: number;
}

export interface RefreshInput {
  refreshToken: string;
  /** Empty for none. */
  idempotencyKey: string;
  audience: string;
  /** UUID of the organization to act in; empty for the last one. */
  organizationId: string;
}

/**
 * New tokens for a refresh token. UNAUTHENTICATED, RESOURCE_EXHAUSTED / RATE_LIMITED, INVALID_ARGUMENT / UNKNOWN_AUDIENCE, and the
 * refusals of chooseOrganization(), by which nothing is used up.
 */
export async function refresh(auth: AuthContext, scope: CallScope, input: RefreshInput): Promise<Tokens> {
  const audience = audienceOf(auth, input.audience);
  // Without one, this throws before anything is used up.
  const { signer } = auth.ownKeys;
  const chosen = input.organizationId === "" ? undefined : await choose(auth, scope, input);
  const next = await takeNext(auth, scope, input, chosen);
  if (!next) throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
  const { refreshToken, last, ...claims } = next;
  const { userId, sessionId } = claims;
  // Not within the transaction: another service may have to be asked. No answer refuses anything.
  const organizationId = chosen ? chosen.organizationId : await keepOrganization(auth, userId, last);
  const issued = issueAccessToken(auth, signer, { ...claims, organizationId }, audience);
  return { userId, sessionId, refreshToken, ...issued };
}

/** An organization that was asked for and may be acted in. */
interface Chosen extends OrganizationChoice {
  organizationId: string | undefined;
}

/** UNAUTHENTICATED for a token of no live session, so that nobody learns anything with one that was found. */
async function choose(auth: AuthContext, scope: CallScope, input: RefreshInput): Promise<Chosen> {
  const [owner] = await during(auth.db, scope.signal)
    .select({ userId: accounts.id, last: accounts.lastOrganizationId })
    .from(refreshTokens)
    .innerJoin(sessions, eq(sessions.id, refreshTokens.sessionId))
    .innerJoin(accounts, eq(accounts.id, sessions.accountId))
    .where(and(eq(refreshTokens.tokenHash, hashOf(input.refreshToken)), isLive(auth)));
  if (!owner) throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
  const choice = { ...owner, asked: input.organizationId };
  return { ...choice, organizationId: await chooseOrganization(auth, scope, choice) };
}

/** What the new tokens are made of. */
interface Next extends AccessClaims {
  refreshToken: string;
  /** The last organization that the account asked for. */
  last: string | null;
}

/** Uses the token up. Undefined if it is good for nothing. */
async function takeNext(
  auth: AuthContext,
  scope: CallScope,
  input: RefreshInput,
  chosen: Chosen | undefined,
): Promise<Next | undefined> {
  const { db, refreshKeys } = auth;
  return transaction(
    db,
    async (tx) => {
      const presented = await lock(tx, auth, input, chosen);
      if (!presented?.isLive) return undefined;
      const { number, isUsed, waitMs, userId, sessionId, generation, authenticatedAt, endSeconds, last } = presented;
      const keyId = isUsed ? await keyToRepeat(tx, auth, presented) : refreshKeys.newest;
      if (keyId === undefined) return endFamily(tx, auth, scope, presented);
      // Told within the transaction: nothing was changed.
      if (!isUsed && waitMs > 0) throw tooOften(waitMs);
      const place = { keyId, family: sessionId, number: number + 1 };
      const refreshToken = nextRefreshToken(refreshKeys, { ...place, token: input.refreshToken });
      const tokenSeconds = Math.min(auth.accessTokenSeconds, auth.sessionIdleSeconds);
      const use = isUsed
        ? sql``
        : useUp(presented, { next: refreshToken, keyId, idempotencyKey: input.idempotencyKey });
      await tx.execute(sql`${use} ${touch(scope, presented, tokenSeconds)}`);
      if (chosen) await rememberOrganization(tx, chosen, chosen.organizationId);
      const expiresAt = endOfToken(auth, { endSeconds, tokenSeconds });
      return { userId, sessionId, generation, authenticatedAt, expiresAt, refreshToken, last };
    },
    { signal: scope.signal },
  );
}

/**
 * Locks the account, the session and the token, in this order. Whoever had to wait gets them as they are after that; only what
 * limits the pace, of long ago, is as the statement found it.
 */
async function lock(
  tx: Tx,
  auth: AuthContext,
  { refreshToken, idempotencyKey }: RefreshInput,
  chosen: Chosen | undefined,
): Promise<Presented | undefined> {
  // Two that share the lock could not both write to the row.
  const strength = chosen && chosen.organizationId !== chosen.last ? sql`no key update` : sql`share`;
  const [presented] = await tx.execute<{ [Key in keyof Presented]: Presented[Key] }>(sql`
    select ${sessions.id} as "sessionId", ${sessions.accountId} as "userId", ${sessions.generation} as generation,
      ${isLive(auth)} as "isLive", ${accounts.lastOrganizationId} as last,
      floor(extract(epoch from ${sessions.createdAt}))::float8 as "authenticatedAt",
      floor(extract(epoch from ${sessions.expiresAt}))::float8 as "endSeconds",
      ${refreshTokens.number} as number, ${refreshTokens.usedAt} is not null as "isUsed",
      coalesce(${refreshTokens.idempotencyKeyHash} = ${keyHashOf(idempotencyKey)}::bytea
        and ${refreshTokens.usedAt} > concierge_now() - make_interval(secs => ${REPEAT_SECONDS}), false) as "isRepeated",
      greatest(0, coalesce(extract(epoch from earlier.used_at + interval '1 minute' - concierge_now()) * 1000, 0))::float8
        as "waitMs"
    from ${refreshTokens}
      join ${sessions} on ${sessions.id} = ${refreshTokens.sessionId}
      join ${accounts} on ${accounts.id} = ${sessions.accountId}
      left join ${refreshTokens} earlier
        on earlier.session_id = ${sessions.id} and earlier.number = ${refreshTokens.number} - ${MOST_PER_MINUTE}
    where ${refreshTokens.tokenHash} = ${hashOf(refreshToken)}
    for ${strength} of ${accounts} for no key update of ${sessions} for no key update of ${refreshTokens}`);
  return presented;
}

function isLive({ sessionIdleSeconds }: AuthContext): SQL {
  return sql`(${accounts.status} = 'active' and ${accounts.generation} = ${sessions.generation}
    and ${isLiveSession(sessionIdleSeconds)})`;
}

/**
 * The key that the next token was derived with, if the use may be repeated. In a statement after the lock, which sees the next token
 * of whoever was faster.
 */
async function keyToRepeat(
  tx: Tx,
  { refreshKeys }: AuthContext,
  { sessionId, number, isRepeated }: Presented,
): Promise<string | undefined> {
  if (!isRepeated) return undefined;
  const [next] = await tx
    .select({ keyId: refreshTokens.keyId, usedAt: refreshTokens.usedAt })
    .from(refreshTokens)
    .where(and(eq(refreshTokens.sessionId, sessionId), eq(refreshTokens.number, number + 1)));
  if (!next?.keyId || next.usedAt !== null) return undefined;
  return refreshKeys.has(next.keyId) ? next.keyId : undefined;
}

/** The token is used, and the next one is there. */
function useUp(
  { sessionId, number }: Presented,
  { next, keyId, idempotencyKey }: { next: string; keyId: string; idempotencyKey: string },
): SQL {
  return sql`
    with used as (
      update ${refreshTokens} set used_at = concierge_now(), idempotency_key_hash = ${keyHashOf(idempotencyKey)}::bytea
      where session_id = ${sessionId} and number = ${number}
    ), next as (
      insert into ${refreshTokens} (session_id, number, token_hash, key_id)
      values (${sessionId}, ${number + 1}, ${hashOf(next)}, ${keyId})
    )`;
}

function touch({ origin }: CallScope, { sessionId }: Presented, tokenSeconds: number): SQL {
  return sql`
    update ${sessions} set last_used_at = concierge_now(), address = ${origin.address}, user_agent = ${origin.userAgent},
      tokens_expire_at = greatest(tokens_expire_at, concierge_now() + make_interval(secs => ${tokenSeconds}))
    where id = ${sessionId}`;
}

function keyHashOf(idempotencyKey: string): Buffer | null {
  return idempotencyKey === "" ? null : hashOf(idempotencyKey);
}

async function endFamily(
  tx: Tx,
  { mailing }: AuthContext,
  scope: CallScope,
  { sessionId, userId }: Presented,
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
