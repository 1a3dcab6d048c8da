/**
 * Compact JWS (RFC 7515) taken apart strictly: one spelling per token. Padding, the other base64 alphabet, white space and
 * non-zero trailing bits are refused, so that a token cannot be respelled. Header members are a closed list: what we do
 * not know (crit, jwk, jku, x5u, zip ...) refuses the token instead of being ignored.
 */

/** Why a token was refused; for the log, never for the caller. */
export type Refusal =
  | "missing"
  | "several"
  | "bad_scheme"
  | "too_long"
  | "bad_form"
  | "bad_header"
  | "bad_typ"
  | "bad_alg"
  | "unknown_kid"
  | "bad_claims"
  | "bad_iss"
  | "bad_aud"
  | "bad_procedure"
  | "bad_digest"
  | "digest_missing"
  | "expired"
  | "not_yet_valid"
  | "too_long_lived"
  | "bad_signature"
  | "session_ended"
  | "replay";

export type Verified<Claims> = { ok: true; claims: Claims } | { ok: false; why: Refusal };

export interface CompactToken {
  header: { alg: string; typ: string; kid: string };
  claims: Record<string, unknown>;
  /** The bytes that were signed. */
  signed: Buffer;
  signature: Buffer;
}

/** Clocks of two machines may differ by this much. */
export const TOLERANCE_SECONDS = 5;

/** The signature may be empty here: an unsigned token is refused by its algorithm, so that the log names the attack. */
const FORM = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/;

/** Takes a token apart, or says why it is none. Checks neither signature nor claims. */
export function parseCompact(token: string, maxLength: number): CompactToken | Refusal {
  if (token.length > maxLength) return "too_long";
  if (!FORM.test(token)) return "bad_form";
  const [headerPart, claimsPart, signaturePart] = token.split(".") as [string, string, string];
  const header = parseObject(headerPart);
  const claims = parseObject(claimsPart);
  const signature = decodeCanonical(signaturePart);
  if (!header || !claims || !signature) return "bad_form";
  const { alg, typ, kid, ...others } = header;
  if (Object.keys(others).length > 0) return "bad_header";
  if (typeof alg !== "string" || typeof typ !== "string" || typeof kid !== "string") return "bad_header";
  return { header: { alg, typ, kid }, claims, signed: Buffer.from(`${headerPart}.${claimsPart}`, "latin1"), signature };
}

/** Puts a token together; `sign` gets the bytes to sign. */
export function formatCompact(
  header: CompactToken["header"],
  claims: Record<string, unknown>,
  sign: (signed: Buffer) => Buffer,
): string {
  const signed = `${encodeObject(header)}.${encodeObject(claims)}`;
  return `${signed}.${sign(Buffer.from(signed, "latin1")).toString("base64url")}`;
}

/** True for a whole number of seconds that a Date can hold: not 1e400, not 1.5, not "1". */
export function isTime(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 253_402_300_799;
}

function encodeObject(value: object): string {
  return Buffer.from(JSON.stringify(value), "utf8").toString("base64url");
}

function decodeCanonical(part: string): Buffer | undefined {
  const bytes = Buffer.from(part, "base64url");
  return bytes.toString("base64url") === part ? bytes : undefined;
}

function parseObject(part: string): Record<string, unknown> | undefined {
  const bytes = decodeCanonical(part);
  if (!bytes) return undefined;
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    return value as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
