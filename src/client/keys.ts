/**
 * The keys of a caller, as `concierge keys add-caller` wrote them. What is wrong with them is said without a word of theirs, because
 * they are secrets: an error ends up in logs.
 */
import type { ServiceKey } from "../token/service-token.ts";

const KINDS: readonly string[] = ["service", "backend", "operator"] satisfies ServiceKey["kind"][];
const KID = /^[A-Za-z0-9._:/-]{1,128}$/;
const PARTY = /^[a-z][a-z0-9-]{0,62}$/;
const BASE64URL = /^[A-Za-z0-9_-]+$/;
const LEAST_SECRET_BYTES = 32;

/**
 * The key to sign with by callee: the first of each, as the newest stands first. Throws a TypeError that says what is wrong, also when
 * one of `callees` has no key.
 */
export function readServiceKeys(
  keys: string | { keys: readonly ServiceKey[] },
  callees: readonly string[],
): ReadonlyMap<string, ServiceKey> {
  const ring = typeof keys === "string" ? parse(keys) : keys;
  const list: unknown = (ring as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(list)) throw new TypeError("keys must be {keys: [...]}, as `concierge keys add-caller` writes it");
  const byCallee = new Map<string, ServiceKey>();
  for (const [index, key] of list.entries()) {
    const fault = faultOf(key);
    if (fault !== undefined) throw new TypeError(`keys: the key at index ${index} ${fault}`);
    if (!byCallee.has(key.callee)) byCallee.set(key.callee, key);
  }
  const missing = callees.filter((callee) => !byCallee.has(callee));
  if (missing.length > 0) {
    throw new TypeError(`keys: none for calls of ${missing.join(", ")}: run \`concierge keys add-caller\` for each`);
  }
  return byCallee;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Its own error quotes the text.
    throw new TypeError("keys is not valid JSON: give the text of the file, not its name");
  }
}

function faultOf(key: unknown): string | undefined {
  if (typeof key !== "object" || key === null) return "is no object";
  const { kid, secret, caller, callee, kind } = key as Record<string, unknown>;
  if (typeof kid !== "string" || !KID.test(kid)) return "has no valid kid";
  if (typeof caller !== "string" || !PARTY.test(caller)) return "has no valid caller";
  if (typeof callee !== "string" || !PARTY.test(callee)) return "has no valid callee";
  if (typeof kind !== "string" || !KINDS.includes(kind)) return "has no valid kind";
  if (typeof secret !== "string" || !BASE64URL.test(secret)) return "has a secret that is not base64url";
  if (Buffer.byteLength(secret, "base64url") < LEAST_SECRET_BYTES) return "has a secret of less than 32 bytes";
  return undefined;
}
