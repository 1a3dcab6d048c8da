/**
 * Keys to make texts of others with, that nobody can make who has not the secret: one for each purpose, derived from
 * the same ring, so that what is made for one purpose is good for no other.
 */
import { createHmac, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";
import type { KeyRing } from "../../config.ts";

const KEY_BYTES = 32;

export class DerivedKeys {
  /** Name of the key that makes new texts. */
  readonly newest: string;
  readonly #keys: Map<string, KeyObject>;

  /** `purpose`: a fixed text that no other keys have. */
  constructor({ keys }: KeyRing, purpose: string) {
    this.newest = keys[0]!.kid;
    this.#keys = new Map(keys.map(({ kid, secret }) => [kid, derivedKey(secret, purpose)]));
  }

  has(keyId: string): boolean {
    return this.#keys.has(keyId);
  }

  /** The text that belongs to this one under this key: HMAC-SHA256, base64url. */
  derive(keyId: string, text: string): string {
    const key = this.#keys.get(keyId);
    if (!key) throw new Error("there is no such key");
    return createHmac("sha256", key).update(text).digest("base64url");
  }
}

/** The key of one purpose that a secret stands for. */
export function derivedKey(secret: string, purpose: string): KeyObject {
  const bytes = hkdfSync("sha256", Buffer.from(secret, "base64url"), Buffer.alloc(0), purpose, KEY_BYTES);
  return createSecretKey(Buffer.from(bytes));
}
