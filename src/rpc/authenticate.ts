/**
 * Who is calling: decided from the headers, before a byte of the body is read. Every refusal looks the same from outside;
 * why it was refused goes to the log only.
 */

import { base64Decode } from "@bufbuild/protobuf/wire";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Mode } from "../config.ts";
import { Code, fail } from "../errors.ts";
import { requirePermission as refuseWithout } from "../rights/require-permission.ts";
import { wantedRevisions } from "../rights/revisions.ts";
import type { RightsWatch } from "../rights/rights-watch.ts";
import type { AccessTokenVerifier } from "../token/access-token.ts";
import type { Refusal } from "../token/compact.ts";
import type { KeyRing } from "../token/key-ring.ts";
import { messageDigest, SERVICE_TOKEN_HEADER, type ServiceTokenVerifier } from "../token/service-token.ts";
import type { SessionCheck } from "../token/session-check.ts";
import { type AccessRule, mayCall } from "./access.ts";
import { type Call, queryOf } from "./call.ts";

/** What a service needs to know its callers. */
export interface Authentication {
  mode: Mode;
  verifyAccessToken: AccessTokenVerifier;
  /** The keys behind verifyAccessToken. */
  keyRing: KeyRing;
  checkSession: SessionCheck;
  /** Calls back as soon as a session is known to have ended; not there where that is known of no session. */
  onSessionEnded?(sessionId: string, listener: () => void): () => void;
  /** Who may do what. */
  rights: RightsWatch;
  verifyServiceToken: ServiceTokenVerifier;
}

const BEARER = /^Bearer ([^\s]+)$/i;

/** Sets `call.caller`, or throws the refusal. */
export async function authenticate(authentication: Authentication, rule: AccessRule, call: Call): Promise<void> {
  switch (rule.who) {
    case "public":
      return;
    case "user":
      return authenticateUser(authentication, rule, call);
    case "permission":
      await authenticateUser(authentication, rule, call);
      return requirePermission(authentication, rule, call);
    case "callers":
      return authenticateService(authentication, rule, call);
  }
}

/** The refusal of every caller who is not known. */
export function unauthenticated(call: Call, refusal: Refusal) {
  call.outcome.refusal = refusal;
  const reason = refusal === "replay" ? "REPLAY" : "UNAUTHENTICATED";
  return fail(Code.Unauthenticated, reason, "unauthenticated");
}

async function authenticateUser(
  { verifyAccessToken, keyRing, checkSession }: Authentication,
  { whenStale }: AccessRule & { who: "user" | "permission" },
  call: Call,
): Promise<void> {
  const token = bearerToken(call);
  let verified = verifyAccessToken(token);
  if (!verified.ok && verified.why === "unknown_kid") {
    await keyRing.lookAgain();
    verified = verifyAccessToken(token);
  }
  if (!verified.ok) throw unauthenticated(call, verified.why);
  const { claims } = verified;
  const live = checkSession(claims, whenStale);
  if (live !== true && !(await live)) throw unauthenticated(call, "session_ended");
  const { userId, sessionId, organizationId } = claims;
  call.caller = { kind: "user", userId, sessionId, organizationId };
  call.claims = claims;
}

/** Refuses a person who lacks the permission, as require-permission.ts tells. Changes that the call knows of are waited for. */
export async function requirePermission(
  { rights }: Pick<Authentication, "rights">,
  { permission, whenStale }: AccessRule & { who: "permission" },
  { claims, rawHeaders }: Pick<Call, "claims" | "rawHeaders">,
): Promise<void> {
  return refuseWithout(rights, claims!, { permission }, { wanted: wantedRevisions(rawHeaders), whenStale });
}

function authenticateService(
  { mode, verifyServiceToken }: Authentication,
  rule: AccessRule & { who: "callers" },
  call: Call,
): void {
  const verified = verifyServiceToken(onlyHeader(call, SERVICE_TOKEN_HEADER), call.target.split("?", 1)[0]!);
  if (!verified.ok) throw unauthenticated(call, verified.why);
  const { caller, callee, kind, digest, tokenId, expiresAt } = verified.claims;
  const isGet = call.httpMethod === "GET";
  const { methodKind, idempotency } = call.method!;
  // A token is for a path, and a path with a query is another one; only Connect's GET carries its message there.
  if (call.target.includes("?") && !isGet) throw unauthenticated(call, "bad_procedure");
  const mayLackDigest = methodKind !== "unary" || (kind === "operator" && mode !== "production");
  if (digest === undefined && !mayLackDigest) throw unauthenticated(call, "digest_missing");
  if (digest !== undefined && isGet && digestOfGet(call.target) !== digest) throw unauthenticated(call, "bad_digest");
  call.caller = { kind, name: caller, callee };
  if (!mayCall(rule, { kind, name: caller })) {
    throw fail(Code.PermissionDenied, "CALLER_NOT_ALLOWED", "this caller may not call this method");
  }
  if (digest !== undefined && !isGet) call.expectedDigest = digest;
  if (idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN) {
    // Each caller names its own tokens; no caller's id may spend another's.
    call.toSpend = { tokenId: `${caller}/${tokenId}`, expiresAt };
  }
}

function bearerToken(call: Call): string {
  const token = BEARER.exec(onlyHeader(call, "authorization"))?.[1];
  if (token === undefined) throw unauthenticated(call, "bad_scheme");
  return token;
}

/** The value of a header that must be there once. Node joins or drops repeated ones, so the raw lines are counted. */
function onlyHeader(call: Call, name: string): string {
  const { rawHeaders } = call;
  let value: string | undefined;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.toLowerCase() !== name) continue;
    if (value !== undefined) throw unauthenticated(call, "several");
    value = rawHeaders[index + 1]!;
  }
  if (value === undefined) throw unauthenticated(call, "missing");
  return value;
}

/** Of the message that Connect will read from the query, decoded as Connect does; none for a compressed or unreadable one. */
function digestOfGet(target: string): string | undefined {
  const query = queryOf(target);
  if ((query.get("compression") ?? "identity") !== "identity") return undefined;
  const message = query.get("message") ?? "";
  try {
    // Not by Buffer, which stops at the first "=" where this decoder reads on: more would be parsed than was signed.
    return messageDigest(query.get("base64") === "1" ? base64Decode(message) : Buffer.from(message, "utf8"));
  } catch {
    return undefined;
  }
}
