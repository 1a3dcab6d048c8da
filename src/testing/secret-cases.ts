/**
 * Secrets for tests: fresh strong values of each kind, and every way a value of that kind may be too weak for
 * production. With `secretVariables(services)` a test generates one case for each secret of the real registry.
 */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { isSample } from "../config/strength.ts";
import type { SecretKind } from "../config.ts";

/** `json` secrets differ from each other; their tests bring their own values. */
export type GeneratedKind = Exclude<SecretKind, "json">;

const databaseUrl = (password: string) => `postgres://service:${password}@127.0.0.1:5432/service`;

const smtpUrl = (password: string) => `smtps://service:${password}@mail.example.com`;

const redisUrl = (password: string) => `rediss://:${password}@redis.example.com:6379`;

const ring = (...secrets: string[]) =>
  JSON.stringify({
    keys: secrets.map((secret, index) => {
      return {
        kid: `k${index}-${randomBytes(4).toString("hex")}`,
        caller: "user",
        callee: "auth",
        kind: "service",
        secret,
      };
    }),
  });

const namedKeys = (...secrets: string[]) =>
  JSON.stringify({ keys: secrets.map((secret) => ({ kid: randomBytes(6).toString("hex"), secret })) });

/** A private P-256 key as a JWK, with any member replaced. */
export function privateJwk(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const jwk = privateKey.export({ format: "jwk" });
  if (isSample(jwk.d!)) return privateJwk(changes);
  const kid = randomBytes(6).toString("hex");
  return { ...jwk, kid, alg: "ES256", use: "sig", ...changes };
}

/** Random bytes as text, but for what happens to read like a sample. */
function randomText(count: number, encoding: BufferEncoding = "base64url"): string {
  const text = randomBytes(count).toString(encoding);
  return isSample(text) ? randomText(count, encoding) : text;
}

const jwks = (...keys: Record<string, unknown>[]) => JSON.stringify({ keys });

/** A value that production accepts, another one at each call. */
export function strongSecret(kind: GeneratedKind): string {
  switch (kind) {
    case "databaseUrl":
      return databaseUrl(randomText(18));
    case "redisUrl":
      return redisUrl(randomText(18));
    case "serviceKeys":
      return ring(randomText(32));
    case "keys":
      return namedKeys(randomText(32));
    case "jwks":
      return jwks(privateJwk());
    case "smtpUrl":
      return smtpUrl(randomText(18));
    case "password":
      return randomText(18);
    case "text":
      return randomText(32, "base64");
  }
}

const encoded = (text: string) => Buffer.from(text).toString("base64url");

/** RFC 7515, appendix A.3: a private key that everybody has. */
const publishedJwk = {
  kty: "EC",
  crv: "P-256",
  kid: "rfc7515",
  x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
  y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
  d: "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
};

/** Values that production refuses, each for one reason. */
export function weakSecrets(kind: GeneratedKind): { what: string; value: string }[] {
  switch (kind) {
    case "databaseUrl":
      return [
        { what: "no password", value: "postgres://service@127.0.0.1/service" },
        { what: "a default password", value: databaseUrl("postgres") },
        { what: "a long sample password", value: databaseUrl("change-me-change-me-please-4711") },
        { what: "a short password", value: databaseUrl(randomBytes(9).toString("base64url")) },
        { what: "a repeated password", value: databaseUrl("xk9xk9xk9xk9xk9xk9xk9xk9") },
        { what: "the user name as password", value: "postgres://notification_sender:notification_sender@[::1]/x" },
      ];
    case "redisUrl":
      return [
        { what: "S-INJ-09 no password", value: "rediss://redis.example.com:6379" },
        { what: "another protocol", value: "http://:CANARY-4711@redis.example.com" },
        { what: "settings of its own", value: `${redisUrl(randomBytes(18).toString("base64url"))}/0?tls=false` },
        { what: "a default password", value: redisUrl("changeme") },
        { what: "a short password", value: redisUrl(randomBytes(9).toString("base64url")) },
        { what: "a repeated password", value: redisUrl("xk9xk9xk9xk9xk9xk9xk9xk9") },
      ];
    case "serviceKeys":
      return weakRings(ring);
    case "keys":
      return weakRings(namedKeys);
    case "jwks": {
      const key = privateJwk();
      return [
        { what: "a published key", value: jwks(publishedJwk) },
        {
          what: "a symmetric key (HS256)",
          value: jwks({ kty: "oct", kid: "a", k: randomBytes(32).toString("base64url") }),
        },
        { what: "a public key", value: jwks({ ...key, d: undefined }) },
        { what: "one key twice", value: jwks(key, { ...key, kid: "other" }) },
      ];
    }
    case "smtpUrl":
      return [
        { what: "another protocol", value: "http://service:CANARY-4711@mail.example.com" },
        { what: "a user without a password", value: "smtps://service@mail.example.com" },
        { what: "settings of its own", value: `${smtpUrl(randomBytes(18).toString("base64url"))}/?pool=true` },
        { what: "a default password", value: smtpUrl("changeme") },
        { what: "a short password", value: smtpUrl("kT9w") },
      ];
    case "password":
      return [
        { what: "a default password", value: "changeme" },
        { what: "a short password", value: randomBytes(9).toString("base64url") },
        { what: "a repeated password", value: "xk9xk9xk9xk9xk9xk9xk9xk9" },
      ];
    case "text":
      return [
        { what: "a default value", value: "changeme" },
        { what: "a long sample value", value: "this-is-my-very-long-secret-for-the-signing-of-things" },
        { what: "a short value", value: randomBytes(20).toString("base64url") },
        { what: "16 bytes in hexadecimal", value: randomBytes(16).toString("hex") },
        { what: "one letter repeated", value: "z".repeat(64) },
        { what: "a repeated pattern", value: "kT9w".repeat(12) },
        { what: "letters in order", value: "abcdefghijklmnopqrstuvwxyz0123456789" },
      ];
  }
}

function weakRings(ringOf: (...secrets: string[]) => string): { what: string; value: string }[] {
  const inOrder = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  return [
    { what: "a sample key", value: ringOf(encoded("changeme-changeme-changeme-changeme")) },
    { what: "a short key", value: ringOf(randomBytes(31).toString("base64url")) },
    { what: "one byte repeated", value: ringOf(Buffer.alloc(32, 7).toString("base64url")) },
    { what: "bytes in order", value: ringOf(inOrder.toString("base64url")) },
    { what: "one secret twice", value: ringOf(...Array<string>(2).fill(randomBytes(32).toString("base64url"))) },
  ];
}
