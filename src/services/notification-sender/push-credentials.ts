/**
 * The Firebase service account's key, and what makes one, checked once at the start. The SDK would check it too, but
 * quotes the key's text in its errors; and of another type of credential it would run whatever that says.
 */
import { createPrivateKey } from "node:crypto";

/** A service account's JSON key as Google hands it out; fields that are not listed are Google's business. */
export interface ServiceAccountKey {
  type: "service_account";
  project_id: string;
  client_email: string;
  /** An RSA key in PEM. */
  private_key: string;
  [field: string]: unknown;
}

/** Why this is no ServiceAccountKey, or undefined if it is one. Names the field, never its content. */
export function credentialsProblem(key: Record<string, unknown>): string | undefined {
  if (key.type !== "service_account") return 'is not a service account\'s: its "type" must be "service_account"';
  const missing = ["project_id", "client_email", "private_key"].find((field) => !isText(key[field]));
  if (missing) return `has no "${missing}"`;
  return isRsaKey(String(key.private_key)) ? undefined : 'has a "private_key" that is not an RSA key in PEM';
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function isRsaKey(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === "rsa";
  } catch {
    return false;
  }
}
