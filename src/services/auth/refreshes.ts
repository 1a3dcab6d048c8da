/**
 * Refreshing: a refresh token is used once and gives the next one of its family, which is the session. One that comes a second time
 * may have been stolen, so the family ends; only who repeats a lost call with the same idempotency key, soon, and before the
 * next token was used, gets that one again.
 */
import { and, eq, type SQL, sql } from "drizzle-orm";
import { during, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope, Origin } from "../../rpc/call.ts";
import { audienceOf, endOfToken, issueAccessToken } from "./access-tokens.ts";
import { chooseOrganization, rememberOrganization } from "./active-organizations.ts";
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

/** The account, the session and the token, in this order. Whoever has to wait gets them as they are after that. */
const LOCKED = sql`for share of ${accounts} for no key update of ${sessions} for no key update of ${refreshTokens}`;

/** A refresh token with its family. */
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

type Columns<Row> = { [Key in keyof Row]: Row[Key] };

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
  // Without a lock: all of it but `isLive` and `isUsed` stays as it is, and these two are looked at again.
  const [presented] = await during(auth.db, scope.signal).execute<Columns<Presented>>(presentedBy(auth, input));
  if (!presented?.isLive) throw unauthenticated();
  const { userId, sessionId, generation, authenticatedAt, endSeconds } = presented;
  // Who comes with a used token learns nothing about organizations before it is judged.
  const judged = presented.isUsed ? await judgeUsed(auth, scope, input) : undefined;
  if (presented.isUsed && judged === undefined) throw unauthenticated();
  const organizationId = await choose(auth, scope, input, presented);
  const fresh = presented.isUsed ? undefined : await useUp(auth, scope, input, presented);
  const refreshToken = judged ?? fresh ?? (await judgeUsed(auth, scope, input));
  if (refreshToken === undefined) throw unauthenticated();
  if (input.organizationId !== "") await rememberOrganization(during(auth.db, scope.signal), presented, organizationId);
  const expiresAt = endOfToken(auth, { endSeconds, tokenSeconds: tokenSecondsOf(auth) });
  const claims = { userId, sessionId, generation, authenticatedAt, expiresAt, organizationId };
  return { userId, sessionId, refreshToken, ...issueAccessToken(auth, signer, claims, audience) };
}

/** The organization that the new token names, of a session that does not come too often: a refusal uses nothing up. */
function choose(
  auth: AuthContext,
  scope: CallScope,
  { organizationId: asked }: RefreshInput,
  { userId, sessionId, last, isUsed, waitMs }: Presented,
): Promise<string | undefined> {
  if (!isUsed && waitMs > 0) throw tooOften(waitMs);
  const choiceWaitMs = asked === "" ? 0 : auth.choicePace(sessionId);
  if (choiceWaitMs > 0) throw tooOften(choiceWaitMs);
  return chooseOrganization(auth, scope, { userId, asked, last });
}

/**
 * Uses the token up, and stores and returns the next one; undefined if it is not live any more, or used meanwhile. One statement,
 * which locks and looks again: what nearly every refresh needs is to go there and back as seldom as possible.
 */
async function useUp(
  auth: AuthContext,
  { signal, origin }: CallScope,
  input: RefreshInput,
  presented: Presented,
): Promise<string | undefined> {
  const { number } = presented;
  const keyId = auth.refreshKeys.newest;
  const next = nextTokenOf(auth, input, presented, keyId);
  const used = await during(auth.db, signal).execute(sql`
    with usable as (
      select ${sessions.id} as id
      ${familyOf(input)} and ${refreshTokens.usedAt} is null and ${isLiveFamily(auth)}
      ${LOCKED}
    ), used as (
      update ${refreshTokens} set used_at = concierge_now(), idempotency_key_hash = ${keyHashOf(input)}::bytea
      from usable where session_id = usable.id and number = ${number}
    ), next as (
      insert into ${refreshTokens} (session_id, number, token_hash, key_id)
      select id, ${number + 1}::integer, ${hashOf(next)}::bytea, ${keyId} from usable
    )
    ${touch(auth, origin)} from usable where ${sessions.id} = usable.id
    returning 1`);
  return used.length === 1 ? next : undefined;
}

/** Decides about a token that was used: its next one again, or the end of the family, and then undefined. */
function judgeUsed(auth: AuthContext, scope: CallScope, input: RefreshInput): Promise<string | undefined> {
  return transaction(
    auth.db,
    async (tx) => {
      const [presented] = await tx.execute<Columns<Presented>>(sql`${presentedBy(auth, input)} ${LOCKED}`);
      if (!presented?.isLive || !presented.isUsed) return undefined;
      const keyId = await keyToRepeat(tx, auth, presented);
      if (keyId === undefined) return endFamily(tx, auth, scope, presented);
      await tx.execute(sql`${touch(auth, scope.origin)} where id = ${presented.sessionId}`);
      return nextTokenOf(auth, input, presented, keyId);
    },
    { signal: scope.signal },
  );
}

function nextTokenOf(
  { refreshKeys }: AuthContext,
  { refreshToken: token }: RefreshInput,
  { sessionId: family, number }: Presented,
  keyId: string,
): string {
  return nextRefreshToken(refreshKeys, { keyId, family, number: number + 1, token });
}

function tokenSecondsOf({ accessTokenSeconds, sessionIdleSeconds }: AuthContext): number {
  return Math.min(accessTokenSeconds, sessionIdleSeconds);
}

/** What a token says of itself and its family. */
function presentedBy(auth: AuthContext, input: RefreshInput): SQL {
  return sql`
    select ${sessions.id} as "sessionId", ${sessions.accountId} as "userId", ${sessions.generation} as generation,
      ${isLiveFamily(auth)} as "isLive", ${accounts.lastOrganizationId} as last,
      floor(extract(epoch from ${sessions.createdAt}))::float8 as "authenticatedAt",
      floor(extract(epoch from ${sessions.expiresAt}))::float8 as "endSeconds",
      ${refreshTokens.number} as number, ${refreshTokens.usedAt} is not null as "isUsed",
      coalesce(${refreshTokens.idempotencyKeyHash} = ${keyHashOf(input)}::bytea
        and ${refreshTokens.usedAt} > concierge_now() - make_interval(secs => ${REPEAT_SECONDS}), false) as "isRepeated",
      greatest(0, coalesce(extract(epoch from (
        select earlier.used_at from ${refreshTokens} earlier
        where earlier.session_id = ${sessions.id} and earlier.number = ${refreshTokens.number} - ${MOST_PER_MINUTE}
      ) + interval '1 minute' - concierge_now()) * 1000, 0))::float8 as "waitMs"
    ${familyOf(input)}`;
}

function familyOf({ refreshToken }: RefreshInput): SQL {
  return sql`
    from ${refreshTokens}
      join ${sessions} on ${sessions.id} = ${refreshTokens.sessionId}
      join ${accounts} on ${accounts.id} = ${sessions.accountId}
    where ${refreshTokens.tokenHash} = ${hashOf(refreshToken)}`;
}

function isLiveFamily({ sessionIdleSeconds }: AuthContext): SQL {
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

function touch(auth: AuthContext, { address, userAgent }: Origin): SQL {
  return sql`
    update ${sessions} set last_used_at = concierge_now(), address = ${address}, user_agent = ${userAgent},
      tokens_expire_at = greatest(tokens_expire_at, concierge_now() + make_interval(secs => ${tokenSecondsOf(auth)}))`;
}

function keyHashOf({ idempotencyKey }: RefreshInput): Buffer | null {
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

function unauthenticated() {
  return fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
}

function tooOften(retryAfterMs: number) {
  const message = "the session was refreshed too often, try again later";
  return fail(Code.ResourceExhausted, "RATE_LIMITED", message, { retryAfterMs });
}
