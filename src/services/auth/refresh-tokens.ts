/**
 * Refresh tokens as such: the first one of a session is random, each further one is derived from the one before it. So a next token
 * can be told again without being stored; the database knows SHA-256s only.
 */
import { createHash, createHmac, createSecretKey, hkdfSync, type KeyObject, randomBytes } from "node:crypto";
import type { KeyRing } from "../../config.ts";

const TOKEN_BYTES = 32;
const PURPOSE = "concierge refresh token";

/** The random one that a session begins with. */
export function firstRefreshToken(): string {
  return randomBytes(TOKEN_BYTES).toString("base64url");
}

/** What is stored of a token. */
export function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

/** Keys to derive with, by name; the first one makes new tokens. */
export class RefreshKeys {
  readonly newest: string;
  readonly #keys: Map<string, KeyObject>;

  constructor({ keys }: KeyRing) {
    this.newest = keys[0]!.kid;
    this.#keys = new Map(keys.map(({ kid, secret }) => [kid, derivedKey(secret, PURPOSE)]));
  }

  has(keyId: string): boolean {
    return this.#keys.has(keyId);
  }

  /** The token with this number, after the one before it. */
  next(keyId: string, family: string, number: number, token: string): string {
    const key = this.#keys.get(keyId);
    if (!key) throw new Error("there is no such key");
    return createHmac("sha256", key).update(`${family}|${number}|${token}`).digest("base64url");
  }
}

/** For one purpose only, so that the same secret may serve others. */
export function derivedKey(secret: string, purpose: string): KeyObject {
  const bytes = hkdfSync("sha256", Buffer.from(secret, "base64url"), Buffer.alloc(0), purpose, TOKEN_BYTES);
  return createSecretKey(Buffer.from(bytes));
}
