/**
 * Makes keys: the pairs for service tokens, which follow from the contract (a method that lists a caller needs that pair),
 * and the key sets that sign access tokens.
 */
import { randomBytes } from "node:crypto";
import { exportJWK, generateKeyPair } from "jose";
import { v7 as uuidv7 } from "uuid";
import { isSample } from "../config/strength.ts";
import type { KeyRing, ServiceKey } from "../config.ts";
import { readingServices } from "../feed/readers.ts";
import { accessRule, sideOf } from "../rpc/access.ts";
import type { ServiceDefinition } from "../service.ts";
import type { KeySet, SetKey, SigningAlgorithm } from "./signing-keys.ts";

const SECRET_BYTES = 32;
/** As strong as the elliptic curves (128 bits, NIST SP 800-57). */
const RSA_BITS = 3_072;
/** The end of a name that tells when the key was made: a UUID of version 7, which sorts by time. */
const TIME_IN_NAME = /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A key for calls from one caller to one callee. */
export function createServiceKey(caller: string, callee: string, kind: ServiceKey["kind"]): ServiceKey {
  const kid = `${caller}-${callee}-${uuidv7()}`;
  return { kid, caller, callee, kind, secret: randomSecret() };
}

/** A ring with one new key, to derive tokens with. */
export function createTokenKeys(): KeyRing {
  return { keys: [{ kid: uuidv7(), secret: randomSecret() }] };
}

/** One that production takes: another one is drawn for what happens to read like a sample. */
function randomSecret(): string {
  const secret = randomBytes(SECRET_BYTES).toString("base64url");
  return isSample(secret) ? randomSecret() : secret;
}

/** When a key was made, as its name tells: texts that sort by time; empty for a key whose name does not tell. */
export function madeAt(kid: string): string {
  return TIME_IN_NAME.exec(kid)?.[0] ?? "";
}

/** Every pair of services of which the first may call the second or read its feed, as the contract says. */
export function pairsOf(definitions: ServiceDefinition[]): { caller: string; callee: string }[] {
  return calleesOf(definitions).flatMap((callee) => {
    const rules = callee.services.flatMap((desc) => desc.methods.map(accessRule));
    const callers = rules.flatMap((rule) => (rule.who === "callers" ? rule.services : []));
    const readers = callee.events ? readingServices(callee.events) : [];
    return [...new Set([...callers, ...readers])].sort().map((caller) => ({ caller, callee: callee.name }));
  });
}

/** The services that take internal calls. */
export function calleesOf(definitions: ServiceDefinition[]): ServiceDefinition[] {
  return definitions.filter(({ services }) => services.some((desc) => sideOf(desc) === "internal"));
}

/** A set with one new private key. */
export async function createSigningKeys(alg: SigningAlgorithm): Promise<KeySet> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: RSA_BITS });
  const jwk = await exportJWK(privateKey);
  if (isSample(jwk.d!)) return createSigningKeys(alg);
  return { keys: [{ ...jwk, kid: uuidv7(), alg } as SetKey] };
}
