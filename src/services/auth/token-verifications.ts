/**
 * Whose is this access token, and what may that person do? Decided from memory: the token by the keys that are there anyway, its session
 * by auth's own feed, the rights by those of access and organization. Only what is not known, or not known to be fresh, is asked for; what
 * nobody can tell is UNAVAILABLE / AUTH_STALE, never a refusal and never an empty answer.
 */
import type { HandlerContext } from "@connectrpc/connect";
import type { Logger } from "../../log.ts";
import { NO_REVISIONS, type Revisions } from "../../rights/revisions.ts";
import type { Rights } from "../../rights/rights.ts";
import { unauthenticated } from "../../rpc/authenticate.ts";
import { type CallScope, callOf, keyHolderOf, scopeOf } from "../../rpc/call.ts";
import {
  type AccessClaims,
  type AccessTokenVerifier,
  AUDIENCE,
  createAccessTokenVerifier,
} from "../../token/access-token.ts";
import type { Refusal } from "../../token/compact.ts";
import { FRESH_MS, type SessionWatch } from "../../token/freshness.ts";
import { rightsIn } from "./active-organizations.ts";
import { followOwnSessions } from "./own-sessions.ts";
import { type PersonCard, PersonCards } from "./person-cards.ts";
import type { AuthContext } from "./service.ts";

export interface VerifiedToken {
  ok: true;
  claims: AccessClaims;
  card: PersonCard;
  /** UUID of the organization that the token names, if the person may act in it; empty for none. */
  organizationId: string;
  /** What the person may do there. */
  rights: Rights | undefined;
  /** Everything is known that was committed up to a moment before. */
  freshAt: Date;
  revisions: Revisions;
}

export interface TokenVerificationsOptions
  extends Pick<AuthContext, "db" | "feed" | "issuer" | "clock" | "isLive" | "ownKeys" | "rights"> {
  /** Audiences beside Concierge's own, as `caller=audience`: whose tokens each caller may ask about. */
  callerAudiences: string[];
  log: Logger;
}

const SESSION_ENDED = { ok: false, why: "session_ended" } as const;

export class TokenVerifications {
  readonly cards: PersonCards;
  readonly #options: TokenVerificationsOptions;
  /** By the names of callers; others ask about Concierge's own only. */
  readonly #verifiers = new Map<string, AccessTokenVerifier>();
  readonly #verifyOwn: AccessTokenVerifier;
  #sessions: SessionWatch | undefined;

  constructor(options: TokenVerificationsOptions) {
    this.#options = options;
    this.cards = new PersonCards(options.db);
    this.#verifyOwn = createAccessTokenVerifier(options.ownKeys, options);
    for (const [caller, audiences] of audiencesByCaller(options.callerAudiences)) {
      this.#verifiers.set(caller, createAccessTokenVerifier(options.ownKeys, { ...options, audiences }));
    }
  }

  /** Starts to follow the sessions that end: before that, nothing can be verified. */
  followSessions(): SessionWatch {
    this.#sessions = followOwnSessions(this.#options, this.#options.log);
    return this.#sessions;
  }

  /** Who a token belongs to, or why it is good for nothing. UNAVAILABLE / AUTH_STALE. */
  async verify(scope: CallScope, token: string): Promise<VerifiedToken | { ok: false; why: Refusal }> {
    const { rights: watch } = this.#options;
    const { wanted } = scope;
    const verify = this.#verifiers.get(keyHolderOf(scope).name) ?? this.#verifyOwn;
    const verified = verify(token);
    if (!verified.ok) return verified;
    const { claims } = verified;
    const { userId, organizationId } = claims;
    const sessions = this.#sessions!;
    if (!(await sessions.check(claims, "closed"))) return SESSION_ENDED;
    const [card, found] = await Promise.all([
      this.cards.find(userId),
      organizationId && rightsIn({ rights: watch }, { userId, organizationId }, wanted),
    ]);
    // It may have ended while others were asked.
    if (!card || !(await sessions.check(claims, "closed"))) return SESSION_ENDED;
    const rights = found && card.status === "active" && found.rights.standing === "active" ? found.rights : undefined;
    return {
      ...{ ok: true, claims, card, rights },
      organizationId: rights ? organizationId! : "",
      freshAt: this.#wallTime(Math.min(this.#sessionsFreshAt, found ? found.freshAt : Number.POSITIVE_INFINITY)),
      revisions: found ? found.rights.revisions : NO_REVISIONS,
    };
  }

  /** Monotonic time: a session that was checked by another way was asked about no longer ago. */
  get #sessionsFreshAt(): number {
    const oldest = this.#options.clock.monotonic() - FRESH_MS;
    return Math.max(oldest, this.#sessions!.freshAt ?? oldest);
  }

  #wallTime(monotonic: number): Date {
    const { clock } = this.#options;
    return new Date(clock.now() - (clock.monotonic() - monotonic));
  }
}

/** What verify() has found. UNAUTHENTICATED: the same whatever is wrong with the token, which only the log tells. */
export async function requireToken(
  { verifications }: Pick<AuthContext, "verifications">,
  context: HandlerContext,
  token: string,
): Promise<VerifiedToken> {
  const verified = await verifications.verify(scopeOf(context), token);
  if (!verified.ok) throw unauthenticated(callOf(context.values), verified.why);
  return verified;
}

function audiencesByCaller(pairs: string[]): Map<string, string[]> {
  const audiences = new Map<string, string[]>();
  for (const pair of pairs) {
    const [caller, audience] = pair.split("=") as [string, string];
    audiences.set(caller, [...(audiences.get(caller) ?? [AUDIENCE]), audience]);
  }
  return audiences;
}
