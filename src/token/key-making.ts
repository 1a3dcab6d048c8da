/**
 * Makes keys: the pairs for service tokens, which follow from the contract (a method that lists a caller needs that pair),
 * and the key sets that sign access tokens.
 */
import { randomBytes } from "node:crypto";
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from "jose";
import type { KeyRing, ServiceKey } from "../config.ts";
import { readingServices } from "../feed/readers.ts";
import { accessRule, sideOf } from "../rpc/access.ts";
import type { ServiceDefinition } from "../service.ts";
import type { KeySet, SetKey, SigningAlgorithm } from "./signing-keys.ts";

const SECRET_BYTES = 32;

/** A key for calls from one caller to one callee. */
export function createServiceKey(caller: string, callee: string, kind: ServiceKey["kind"]): ServiceKey {
  const kid = `${caller}-${callee}-${randomBytes(6).toString("hex")}`;
  return { kid, caller, callee, kind, secret: randomBytes(SECRET_BYTES).toString("base64url") };
}

/** A ring with one new key, to derive tokens with. */
export function createTokenKeys(): KeyRing {
  return { keys: [{ kid: randomBytes(6).toString("hex"), secret: randomBytes(SECRET_BYTES).toString("base64url") }] };
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

/** A set with one new private key, named by its RFC 7638 thumbprint. */
export async function createSigningKeys(alg: SigningAlgorithm): Promise<KeySet> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
  const jwk = await exportJWK(privateKey);
  return { keys: [{ ...jwk, kid: await calculateJwkThumbprint(jwk), alg } as SetKey] };
}
