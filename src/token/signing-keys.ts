/**
 * The keys of access tokens. auth holds the private ones (a JSON Web Key Set, RFC 7517, whose first key signs); everybody
 * else holds the public half. A key is bound to one algorithm, so a token cannot choose another. All crypto here is
 * synchronous: asynchronous verification shares the thread pool with password hashing and waits behind it.
 */
import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject, sign, verify } from "node:crypto";

export type SigningAlgorithm = "ES256" | "EdDSA" | "RS256";

const DIGEST: Record<SigningAlgorithm, string | null> = { ES256: "sha256", EdDSA: null, RS256: "sha256" };
const KEY_TYPE: Record<SigningAlgorithm, string> = { ES256: "ec", EdDSA: "ed25519", RS256: "rsa" };

/** One key of a set, with the members we read. */
export interface SetKey extends JsonWebKey {
  kid: string;
  alg: SigningAlgorithm;
}

export interface KeySet {
  keys: SetKey[];
}

export interface VerificationKey {
  kid: string;
  alg: SigningAlgorithm;
  key: KeyObject;
}

/** Reads the public keys of a set; the private members of a private set are left out. Throws on a key of another kind. */
export function verificationKeys(set: KeySet): VerificationKey[] {
  return set.keys.map((jwk) => {
    const key = createPublicKey({ key: publicMembers(jwk), format: "jwk" });
    assertKind(jwk, key);
    return { kid: jwk.kid, alg: jwk.alg, key };
  });
}

/** The set to publish as /.well-known/jwks.json: public members only. */
export function publicKeySet(set: KeySet): KeySet {
  return { keys: set.keys.map((jwk) => ({ ...publicMembers(jwk), use: "sig" })) };
}

export interface Signer {
  kid: string;
  alg: SigningAlgorithm;
  sign(data: Buffer): Buffer;
}

/** The signer that uses the first key of a private set. */
export function createSigner(set: KeySet): Signer {
  const jwk = set.keys[0];
  if (!jwk) throw new Error("the key set is empty");
  const key = createPrivateKey({ key: jwk, format: "jwk" });
  assertKind(jwk, key);
  const digest = DIGEST[jwk.alg];
  return { kid: jwk.kid, alg: jwk.alg, sign: (data) => sign(digest, data, { key, dsaEncoding: "ieee-p1363" }) };
}

/** True for a private key that fits its algorithm and whose public half belongs to it. */
export function isSigningKey(jwk: SetKey): boolean {
  try {
    const key = createPrivateKey({ key: jwk, format: "jwk" });
    assertKind(jwk, key);
    const derived = createPublicKey(key).export({ format: "jwk" });
    return (["x", "y", "n", "e"] as const).every((member) => derived[member] === jwk[member]);
  } catch {
    return false;
  }
}

export function verifySignature(key: VerificationKey, data: Buffer, signature: Buffer): boolean {
  return verify(DIGEST[key.alg], data, { key: key.key, dsaEncoding: "ieee-p1363" }, signature);
}

function publicMembers(jwk: SetKey): SetKey {
  const { kty, crv, x, y, n, e, kid, alg } = jwk;
  const members = { kty, crv, x, y, n, e, kid, alg };
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as SetKey;
}

function assertKind(jwk: SetKey, key: KeyObject): void {
  const curve = key.asymmetricKeyDetails?.namedCurve;
  const right = key.asymmetricKeyType === KEY_TYPE[jwk.alg] && (jwk.alg !== "ES256" || curve === "prime256v1");
  if (!right) throw new Error(`the key "${jwk.kid}" does not fit its algorithm`);
}
