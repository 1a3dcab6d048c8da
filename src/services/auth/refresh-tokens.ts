/**
 * Refresh tokens as such: the first one of a session is random, each further one is derived from the one before it. So a next token
 * can be told again without being stored; the database knows SHA-256s only.
 */
import { createHash, randomBytes } from "node:crypto";
import type { DerivedKeys } from "./derived-keys.ts";

/** What the keys are derived for. */
export const REFRESH_TOKENS = "concierge refresh token";

const TOKEN_BYTES = 32;

/** The random one that a session begins with. */
export function firstRefreshToken(): string {
  return randomBytes(TOKEN_BYTES).toString("base64url");
}

/** The token with this number, after the one before it. */
export function nextRefreshToken(
  keys: DerivedKeys,
  next: { keyId: string; family: string; number: number; token: string },
): string {
  return keys.derive(next.keyId, `${next.family}|${next.number}|${next.token}`);
}

/** What is stored of a token. */
export function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
