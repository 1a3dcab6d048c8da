/**
 * What a session stores of an answer with tokens. Times are those of this device: how long a token lives is taken from
 * the token, and counted from when it was asked for, so a device whose clock is wrong refreshes no sooner and no later.
 */
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import type { AccessToken, StoredSession } from "./session-store.ts";

/** What Login, RefreshToken and ChangePassword have in common. */
export interface TokensAnswer {
  userId: string;
  sessionId: string;
  accessToken: string;
  refreshToken: string;
  organizationId: string;
}

/** How the tokens were asked for. */
export interface Asked {
  audience: string;
  /** By the clock of this device, in milliseconds since 1970. */
  sentAt: number;
}

/** The part of an access token's life that is left when the next one is fetched; by chance, lest all devices come at once. */
const LEAD = { least: 0.1, most: 0.3 };
/** Longer lives are treated as this, in milliseconds. */
const LONGEST_LIFE_FOR_LEAD = 300_000;
/** Enough that nobody guesses one. */
const KEY_BYTES = 24;

/** The session of an answer. Access tokens that `earlier` has for other organizations stay, and so does a key for the same token. */
export function sessionOf(answer: TokensAnswer, asked: Asked, earlier?: StoredSession): StoredSession {
  const { userId, sessionId, refreshToken } = answer;
  const newest = accessTokenOf(answer, asked);
  const others = (earlier?.accessTokens ?? []).filter(
    (other) => other.expiresAt > asked.sentAt && !isFor(other, newest),
  );
  // Somebody who repeated the same use may have stored the same next token already, and be using it with its key.
  const isStored = earlier?.refreshToken === refreshToken;
  const idempotencyKey = isStored ? earlier.idempotencyKey : newIdempotencyKey();
  return { userId, sessionId, refreshToken, idempotencyKey, accessTokens: [newest, ...others] };
}

/** The access token for an organization and audience, however old it is. */
export function accessTokenFor(
  session: StoredSession | undefined,
  wanted: { organizationId: string; audience: string },
): AccessToken | undefined {
  return session?.accessTokens.find((token) => isFor(token, wanted));
}

function isFor(
  token: AccessToken,
  { organizationId, audience }: { organizationId: string; audience: string },
): boolean {
  return token.organizationId === organizationId && token.audience === audience;
}

function accessTokenOf(
  { accessToken, userId, organizationId }: TokensAnswer,
  { audience, sentAt }: Asked,
): AccessToken {
  const lifeMs = lifeOf(accessToken);
  const lead = LEAD.least + Math.random() * (LEAD.most - LEAD.least);
  const expiresAt = sentAt + lifeMs;
  const refreshAt = expiresAt - lead * Math.min(lifeMs, LONGEST_LIFE_FOR_LEAD);
  return { token: accessToken, userId, organizationId, audience, refreshAt, expiresAt };
}

/** How long a JWT lives, in milliseconds. */
function lifeOf(token: string): number {
  const { iat, exp } = JSON.parse(new TextDecoder().decode(base64Decode(token.split(".")[1]!)));
  return (exp - iat) * 1000;
}

/** Random text. Not crypto.randomUUID(), which pages have over https only. */
function newIdempotencyKey(): string {
  return base64Encode(crypto.getRandomValues(new Uint8Array(KEY_BYTES)), "url");
}
