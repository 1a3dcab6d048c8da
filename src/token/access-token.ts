/**
 * Access tokens: JWTs (RFC 9068, `typ: at+jwt`) that live minutes and say who a person is. One function verifies them
 * everywhere; it is strict and synchronous. Whether the session behind a token is still live is another question, asked
 * after this one (sessions.ts).
 */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { validate as isUuid, v7 as uuidv7 } from "uuid";
import type { Clock } from "../clock.ts";
import { formatCompact, isTime, parseCompact, TOLERANCE_SECONDS, type Verified } from "./compact.ts";
import type { KeyRing } from "./key-ring.ts";
import { type Signer, verifySignature } from "./signing-keys.ts";

const TYPE = "at+jwt";
const MAX_LENGTH = 4096;
/** PostgreSQL's largest integer: auth keeps generations in one. */
const MAX_GENERATION = 2 ** 31 - 1;
const REMEMBERED_TOKENS = 10_000;

/** The audience of tokens for Concierge's own services. */
export const AUDIENCE = "concierge";

/** What a verified access token says. */
export interface AccessClaims {
  /** UUID of the account (`sub`). */
  userId: string;
  /** UUID of the session (`sid`). */
  sessionId: string;
  /** UUID of the organization that the person acts in (`org`); not there for none. It gives no right by itself. */
  organizationId?: string;
  /** The account's generation (`gen`): sessions of an older one are dead. */
  generation: number;
  /** When the person proved who they are (`auth_time`), in seconds since 1970. */
  authenticatedAt: number;
  /** In seconds since 1970 (`exp`). */
  expiresAt: number;
}

export interface AccessTokenOptions {
  issuer: string;
  clock: Clock;
}

export interface VerifierOptions extends AccessTokenOptions {
  /** Whose tokens are accepted; those for Concierge's own services unless told otherwise. */
  audiences?: readonly string[];
}

/** Signs a token for a live session. `expiresAt` in seconds since 1970. */
export function signAccessToken(
  signer: Signer,
  { issuer, clock }: AccessTokenOptions,
  claims: AccessClaims,
  audience = AUDIENCE,
): string {
  return formatCompact(
    { alg: signer.alg, typ: TYPE, kid: signer.kid },
    {
      iss: issuer,
      aud: audience,
      sub: claims.userId,
      org: claims.organizationId,
      sid: claims.sessionId,
      gen: claims.generation,
      auth_time: claims.authenticatedAt,
      iat: Math.floor(clock.now() / 1000),
      exp: claims.expiresAt,
      jti: uuidv7(),
    },
    signer.sign,
  );
}

export type AccessTokenVerifier = (token: string) => Verified<AccessClaims>;

/**
 * Makes the verifier. What verified once is remembered by the SHA-256 of its whole text together with the key ring's
 * generation; expiry is checked at every use. Failures are not remembered.
 */
export function createAccessTokenVerifier(
  keyRing: KeyRing,
  { issuer, clock, audiences = [AUDIENCE] }: VerifierOptions,
): AccessTokenVerifier {
  const remembered = new LRUCache<string, { claims: AccessClaims; ringGeneration: number }>({ max: REMEMBERED_TOKENS });
  return (token) => {
    if (token.length > MAX_LENGTH) return { ok: false, why: "too_long" };
    const nowSeconds = clock.now() / 1000;
    const name = hash("sha256", token, "base64");
    const known = remembered.get(name);
    if (known && known.ringGeneration === keyRing.generation) {
      return isExpired(known.claims, nowSeconds) ? { ok: false, why: "expired" } : { ok: true, claims: known.claims };
    }
    const verified = verifyOnce(token, keyRing, { issuer, audiences, nowSeconds });
    if (verified.ok) remembered.set(name, { claims: verified.claims, ringGeneration: keyRing.generation });
    return verified;
  };
}

interface Expected {
  issuer: string;
  audiences: readonly string[];
  nowSeconds: number;
}

function verifyOnce(token: string, keyRing: KeyRing, expected: Expected): Verified<AccessClaims> {
  const { issuer, audiences, nowSeconds } = expected;
  const parsed = parseCompact(token, MAX_LENGTH);
  if (typeof parsed === "string") return { ok: false, why: parsed };
  if (parsed.header.typ !== TYPE) return { ok: false, why: "bad_typ" };
  const key = keyRing.find(parsed.header.kid);
  if (!key) return { ok: false, why: "unknown_kid" };
  if (key.alg !== parsed.header.alg) return { ok: false, why: "bad_alg" };
  const { iss, aud, iat, nbf, exp } = parsed.claims;
  if (iss !== issuer) return { ok: false, why: "bad_iss" };
  if (typeof aud !== "string" || !audiences.includes(aud)) return { ok: false, why: "bad_aud" };
  const claims = readClaims(parsed.claims);
  if (!claims || !isTime(iat) || !isTime(exp)) return { ok: false, why: "bad_claims" };
  if (iat > nowSeconds + TOLERANCE_SECONDS) return { ok: false, why: "not_yet_valid" };
  if (nbf !== undefined && (!isTime(nbf) || nbf > nowSeconds + TOLERANCE_SECONDS))
    return { ok: false, why: "not_yet_valid" };
  if (isExpired(claims, nowSeconds)) return { ok: false, why: "expired" };
  if (!verifySignature(key, parsed.signed, parsed.signature)) return { ok: false, why: "bad_signature" };
  return { ok: true, claims };
}

function isExpired(claims: AccessClaims, nowSeconds: number): boolean {
  return nowSeconds > claims.expiresAt + TOLERANCE_SECONDS;
}

function readClaims(claims: Record<string, unknown>): AccessClaims | undefined {
  const { sub, org, sid, gen, auth_time, exp, jti } = claims;
  if (!isUuid(sub) || !isUuid(sid) || !isUuid(jti)) return undefined;
  if (org !== undefined && !isUuid(org)) return undefined;
  if (typeof gen !== "number" || !Number.isInteger(gen) || gen < 0 || gen > MAX_GENERATION) return undefined;
  if (!isTime(auth_time) || !isTime(exp)) return undefined;
  return {
    userId: sub as string,
    ...(org !== undefined && { organizationId: org as string }),
    sessionId: sid as string,
    ...(org === undefined ? {} : { organizationId: org as string }),
    generation: gen,
    authenticatedAt: auth_time,
    expiresAt: exp,
  };
}
