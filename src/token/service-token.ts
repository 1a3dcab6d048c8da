/**
 * Service tokens: how one service proves to another who it is. A compact JWS in the header `service-token`, HS256 with a key
 * that belongs to one caller-callee pair, good for one procedure, one message (`bd`, the SHA-256 of its bytes) and 30
 * seconds. Any language can make one. The user's own token, where one stands behind the call, travels beside it.
 */
import { createHash, createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import { v7 as uuidv7 } from "uuid";
import type { Clock } from "../clock.ts";
import { formatCompact, isTime, parseCompact, TOLERANCE_SECONDS, type Verified } from "./compact.ts";

export const SERVICE_TOKEN_HEADER = "service-token";

const TYPE = "svc+jwt";
const ALGORITHM = "HS256";
const MAX_LENGTH = 2048;
const LIFE_SECONDS = 30;
const DIGEST = /^[A-Za-z0-9_-]{43}$/;
const TOKEN_ID = /^[A-Za-z0-9._-]{16,64}$/;

/** One HMAC key of one caller-callee pair; two live keys of a pair (for rotation) differ in kid and secret. */
export interface ServiceKey {
  kid: string;
  /** At least 32 bytes, base64url. */
  secret: string;
  caller: string;
  callee: string;
  kind: "service" | "backend" | "operator";
}

/** What a verified service token says. */
export interface ServiceClaims {
  /** Name of the calling service, backend or operator. */
  caller: string;
  /** Name of the service that it is for. */
  callee: string;
  kind: ServiceKey["kind"];
  /** Id of this one token, unique per caller. */
  tokenId: string;
  /** In seconds since 1970. */
  expiresAt: number;
  /** SHA-256 of the message, base64url; absent on streams and on an operator's calls outside production. */
  digest: string | undefined;
}

/** The digest to put in `bd`: SHA-256 of the message's bytes as sent, without a gRPC frame, base64url. */
export function messageDigest(message: Uint8Array): string {
  return createHash("sha256").update(message).digest("base64url");
}

/**
 * Signs a token for one call of `procedure` ("/concierge.auth.v1.AuthInternalService/GetAccount"). `digest` is left out for
 * streams only.
 */
export function signServiceToken(key: ServiceKey, procedure: string, digest: string | undefined, clock: Clock): string {
  const issuedAt = Math.floor(clock.now() / 1000);
  return formatCompact(
    { alg: ALGORITHM, typ: TYPE, kid: key.kid },
    {
      iss: key.caller,
      aud: key.callee,
      proc: procedure,
      iat: issuedAt,
      exp: issuedAt + LIFE_SECONDS,
      jti: uuidv7(),
      ...(digest === undefined ? {} : { bd: digest }),
    },
    (signed) => mac(key, signed),
  );
}

/** Verifies tokens that are meant for one callee. */
export type ServiceTokenVerifier = (token: string, procedure: string) => Verified<ServiceClaims>;

export function createServiceTokenVerifier(callee: string, keys: ServiceKey[], clock: Clock): ServiceTokenVerifier {
  const ring = new Map(keys.filter((key) => key.callee === callee).map((key) => [key.kid, key]));
  return (token, procedure) => {
    const parsed = parseCompact(token, MAX_LENGTH);
    if (typeof parsed === "string") return { ok: false, why: parsed };
    if (parsed.header.typ !== TYPE) return { ok: false, why: "bad_typ" };
    if (parsed.header.alg !== ALGORITHM) return { ok: false, why: "bad_alg" };
    const key = ring.get(parsed.header.kid);
    if (!key) return { ok: false, why: "unknown_kid" };
    const expected = mac(key, parsed.signed);
    if (expected.length !== parsed.signature.length || !timingSafeEqual(expected, parsed.signature)) {
      return { ok: false, why: "bad_signature" };
    }
    return checkClaims(parsed.claims, key, procedure, clock.now() / 1000);
  };
}

function checkClaims(
  claims: Record<string, unknown>,
  key: ServiceKey,
  procedure: string,
  nowSeconds: number,
): Verified<ServiceClaims> {
  const { iss, aud, proc, iat, exp, jti, bd } = claims;
  if (iss !== key.caller) return { ok: false, why: "bad_iss" };
  if (aud !== key.callee) return { ok: false, why: "bad_aud" };
  if (proc !== procedure) return { ok: false, why: "bad_procedure" };
  if (!isTime(iat) || !isTime(exp) || typeof jti !== "string" || !TOKEN_ID.test(jti))
    return { ok: false, why: "bad_claims" };
  if (bd !== undefined && (typeof bd !== "string" || !DIGEST.test(bd))) return { ok: false, why: "bad_claims" };
  if (exp - iat > LIFE_SECONDS) return { ok: false, why: "too_long_lived" };
  if (iat > nowSeconds + TOLERANCE_SECONDS) return { ok: false, why: "not_yet_valid" };
  if (nowSeconds > exp + TOLERANCE_SECONDS) return { ok: false, why: "expired" };
  const { caller, callee, kind } = key;
  return { ok: true, claims: { caller, callee, kind, tokenId: jti, expiresAt: exp, digest: bd } };
}

/** As Node wants them: making one of a secret takes five times as long as the MAC. */
const secretKeys = new WeakMap<ServiceKey, KeyObject>();

function mac(key: ServiceKey, signed: Buffer): Buffer {
  let secretKey = secretKeys.get(key);
  if (!secretKey) {
    secretKey = createSecretKey(key.secret, "base64url");
    secretKeys.set(key, secretKey);
  }
  return createHmac("sha256", secretKey).update(signed).digest();
}
