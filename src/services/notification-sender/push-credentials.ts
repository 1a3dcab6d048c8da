/**
 * The Firebase service account: its key, read and checked once, and the access tokens it is traded for (RFC 7523). The
 * SDK's own `cert()` is not used: it keeps every key and its token in a process-wide map, so a token that FCM refuses
 * is handed out again for an hour, quotes the key file's text in its errors, and cannot be led to a stand-in or
 * cancelled.
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import { SignJWT } from "jose";
import type { Clock } from "../../clock.ts";
import { ExitCode, StartupError } from "../../errors.ts";

/** Either the key file's path or its JSON text (as from a secret store). */
export type CredentialsSource = { credentialsFile: string } | { credentials: string };

export interface ServiceAccount {
  projectId: string;
  clientEmail: string;
  privateKey: KeyObject;
}

export const GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token";
const GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SCOPE = "https://www.googleapis.com/auth/firebase.messaging";
const ASSERTION_LIFE_S = 3600;
const TOKEN_TIMEOUT_MS = 10_000;

/** Reads and checks the key. Throws a StartupError (config) that names the file or the field, never its content. */
export async function readCredentials(source: CredentialsSource): Promise<ServiceAccount> {
  const isFile = "credentialsFile" in source;
  const name = isFile ? `the Firebase key file ${source.credentialsFile}` : "the Firebase key";
  const key = parseObject(isFile ? await readKeyFile(source.credentialsFile, name) : source.credentials);
  if (!key) throw new StartupError(`${name} is not a JSON object`, ExitCode.config);
  if (key.type !== "service_account") {
    throw new StartupError(`${name} is not a service account's: its "type" must be "service_account"`, ExitCode.config);
  }
  const text = (field: string) => {
    const value = key[field];
    if (typeof value === "string" && value !== "") return value;
    throw new StartupError(`${name} has no "${field}"`, ExitCode.config);
  };
  const privateKey = parsePrivateKey(text("private_key"));
  if (!privateKey) throw new StartupError(`${name} has a "private_key" that is not an RSA key in PEM`, ExitCode.config);
  return { projectId: text("project_id"), clientEmail: text("client_email"), privateKey };
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

function parsePrivateKey(pem: string): KeyObject | undefined {
  try {
    const key = createPrivateKey(pem);
    return key.asymmetricKeyType === "rsa" ? key : undefined;
  } catch {
    return undefined;
  }
}

/** Why there is no access token: the key is not accepted (tell a person), or the endpoint is not there (wait). */
type AccessTokenErrorCode = "push/credentials-refused" | "push/token-endpoint-unavailable";

export class AccessTokenError extends Error {
  override readonly name = "AccessTokenError";
  readonly code: AccessTokenErrorCode;
  constructor(code: AccessTokenErrorCode) {
    super(code);
    this.code = code;
  }
}

/**
 * Trades the account's signature for an access token (about an hour long). One try, of at most 10 s.
 * @throws AccessTokenError, without anything of what was sent or answered
 */
export async function fetchAccessToken(
  account: ServiceAccount,
  tokenUrl: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<{ access_token: string; expires_in: number }> {
  const nowS = Math.floor(clock.now() / 1000);
  const assertion = await new SignJWT({ scope: SCOPE })
    .setProtectedHeader({ alg: "RS256", typ: "JWT" })
    .setIssuer(account.clientEmail)
    .setAudience(GOOGLE_TOKEN_URL)
    .setIssuedAt(nowS)
    .setExpirationTime(nowS + ASSERTION_LIFE_S)
    .sign(account.privateKey);
  try {
    const response = await fetch(tokenUrl, {
      method: "POST",
      body: new URLSearchParams({ grant_type: GRANT_TYPE, assertion }),
      redirect: "error",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TOKEN_TIMEOUT_MS)]),
    });
    const answer: unknown = await response.json().catch(() => undefined);
    if (response.ok && isAccessToken(answer)) return answer;
    const isRefusal = response.status >= 400 && response.status < 500 && response.status !== 429;
    throw new AccessTokenError(isRefusal ? "push/credentials-refused" : "push/token-endpoint-unavailable");
  } catch (error) {
    // What fetch throws names hosts and causes; nobody acts on them.
    throw error instanceof AccessTokenError ? error : new AccessTokenError("push/token-endpoint-unavailable");
  }
}

function isAccessToken(answer: unknown): answer is { access_token: string; expires_in: number } {
  const { access_token, expires_in } = (answer ?? {}) as Record<string, unknown>;
  return typeof access_token === "string" && access_token !== "" && typeof expires_in === "number";
}
