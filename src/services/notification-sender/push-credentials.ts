/**
 * The Firebase service account's key, read and checked once at the start. The SDK would check it too, but quotes the key
 * file's text in its errors; and of another type of credential it would run whatever the file says.
 */
import { createPrivateKey } from "node:crypto";
import { readFile } from "node:fs/promises";
import { ExitCode, StartupError } from "../../errors.ts";

/** Either the key file's path or its JSON text (as from a secret store). */
export type CredentialsSource = { credentialsFile: string } | { credentials: string };

/** A key file's content, in Google's format; fields that are not listed are Google's business. */
export interface ServiceAccountKey {
  type: "service_account";
  project_id: string;
  client_email: string;
  private_key: string;
}

/** Reads and checks the key. Throws a StartupError (config) that names the file or the field, never its content. */
export async function readCredentials(source: CredentialsSource): Promise<ServiceAccountKey> {
  const isFile = "credentialsFile" in source;
  const name = isFile ? `the Firebase key file ${source.credentialsFile}` : "the Firebase key";
  const key = parseObject(isFile ? await readKeyFile(source.credentialsFile, name) : source.credentials);
  if (!key) throw new StartupError(`${name} is not a JSON object`, ExitCode.config);
  const problem = credentialsProblem(key);
  if (problem) throw new StartupError(`${name} ${problem}`, ExitCode.config);
  return key as unknown as ServiceAccountKey;
}

/** Why this is no service account's key, or undefined. Names the field, never its content. */
export function credentialsProblem(key: Record<string, unknown>): string | undefined {
  if (key.type !== "service_account") return 'is not a service account\'s: its "type" must be "service_account"';
  const missing = ["project_id", "client_email", "private_key"].find((field) => !isText(key[field]));
  if (missing) return `has no "${missing}"`;
  return isRsaKey(String(key.private_key)) ? undefined : 'has a "private_key" that is not an RSA key in PEM';
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

async function readKeyFile(file: string, name: string): Promise<string> {
  return readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw new StartupError(`${name} cannot be read (${error.code ?? "unknown"})`, ExitCode.config);
  });
}

function parseObject(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isRsaKey(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === "rsa";
  } catch {
    return false;
  }
}
