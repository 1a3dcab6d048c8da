/** Service tokens as an attacker makes them: any header, any claim, any secret; not bound to what our signer would do. */
import { createHmac } from "node:crypto";
import type { Clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";

export interface Forgery {
  /** Gives kid, iss, aud and the secret. */
  key: ServiceKey;
  clock: Clock;
  /** "/package.Service/Method" */
  procedure: string;
  /** None unless given. */
  digest?: string | undefined;
  /** Members beside or instead of the usual ones; undefined takes one away. */
  header?: Record<string, unknown>;
  claims?: Record<string, unknown>;
  /** Of the HMAC. */
  hash?: string;
  /** base64url, instead of the key's. */
  secret?: string;
}

/** A compact JWS that would be a good service token, but for what was changed. */
export function forgeServiceToken({ key, clock, procedure, digest, header, claims, hash, secret }: Forgery): string {
  const issuedAt = Math.floor(clock.now() / 1000);
  const fullHeader = { alg: "HS256", typ: "svc+jwt", kid: key.kid, ...header };
  const fullClaims = {
    iss: key.caller,
    aud: key.callee,
    proc: procedure,
    iat: issuedAt,
    exp: issuedAt + 30,
    jti: crypto.randomUUID(),
    bd: digest,
    ...claims,
  };
  return signParts(JSON.stringify(fullHeader), JSON.stringify(fullClaims), secret ?? key.secret, hash);
}

/** Signs texts as header and claims, whatever they are. */
export function signParts(header: string, claims: string, secret: string, hash = "sha256"): string {
  const signed = `${Buffer.from(header).toString("base64url")}.${Buffer.from(claims).toString("base64url")}`;
  return `${signed}.${createHmac(hash, Buffer.from(secret, "base64url")).update(signed).digest("base64url")}`;
}
