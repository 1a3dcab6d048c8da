/**
 * What an answer of FCM means for the sender: delivered, dead device, never, or later. A device is given up, and a
 * notification too, only on FCM's own word: a bare 404 or 403 is a wrong project id or a missing role, and would
 * otherwise delete every device there is. Only what FCM said of this very push, or may have taken without saying so, counts as a
 * try. Results carry codes only, so no key, token or text of an error can leak through them.
 */
import type { MessagingErrorCode } from "firebase-admin/messaging";

export type PushResult =
  /** FCM has it. `messageId` is FCM's name of the message. */
  | { outcome: "sent"; messageId: string }
  /** The app is gone from this device: delete the device. Others of the same user are not concerned. */
  | { outcome: "unregistered" }
  /** This push will never be accepted; trying again is pointless. The device may still be good for others. */
  | { outcome: "rejected"; code: string }
  | Postponed;

/** It has to be pushed again. */
export interface Postponed {
  /**
   * "retry": FCM did not take it for now. "unanswered": nobody knows whether FCM has it. "untried": nothing was learnt about this
   * push, since our key, our share or the way to FCM is in trouble.
   */
  outcome: "retry" | "unanswered" | "untried";
  code: string;
  /** How long FCM wants to be left alone. */
  retryAfterSeconds?: number;
}

// Codes are the SDK's (messaging/..., app/...), and these of ours:
// - push/not-found, push/permission-denied, push/credentials-refused: the project, the role or the key is wrong, for
//   every device, until a person repairs it;
// - push/unauthenticated: the access token was refused; the next send fetches another;
// - push/token-endpoint-unavailable, push/unreachable, push/unknown-error;
// - push/deadline-exceeded: no answer was waited for;
// - push/closed: the sender stopped meanwhile, or before.

/** FCM does not accept our access token (any more). */
export const UNAUTHENTICATED_CODE = "push/unauthenticated";
const PERMISSION_DENIED_CODE = "push/permission-denied";
const NOT_FOUND_CODE = "push/not-found";
const QUOTA_CODE = "messaging/message-rate-exceeded";
const CODE = /^[a-z-]{1,40}\/[a-z-]{1,50}$/;
/** A day: what notification's contract takes. */
const MAX_RETRY_AFTER_SECONDS = 86_400;

/** The SDK's code for whatever went wrong in a token exchange; the cause is google-auth-library's error. */
const NO_ACCESS_TOKEN_CODE = "app/invalid-credential";

/** What FCM wants where it says that our share is used up and not for how long. */
const QUOTA_PAUSE_SECONDS = 60;

/** A connection that fails like this has carried nothing. */
const UNREACHABLE =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EHOSTDOWN|ENETDOWN|(ERR_TLS|CERT|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)_\w+)$/;

/** "later" counts as a try; of "not now" it is known that nothing was said about this push. */
type Kind = "device gone" | "wrong project" | "refused" | "later" | "not now";

/** Every code of the SDK's messaging service; a new one fails to compile. */
const KIND_BY_CODE: Record<`messaging/${MessagingErrorCode}`, Kind> = {
  "messaging/registration-token-not-registered": "device gone",
  "messaging/installation-id-not-registered": "device gone",
  "messaging/mismatched-credential": "wrong project",

  "messaging/invalid-argument": "refused",
  "messaging/invalid-recipient": "refused",
  "messaging/invalid-payload": "refused",
  "messaging/invalid-data-payload-key": "refused",
  "messaging/payload-size-limit-exceeded": "refused",
  "messaging/invalid-options": "refused",
  "messaging/invalid-registration-token": "refused",
  "messaging/invalid-package-name": "refused",
  "messaging/too-many-topics": "refused",

  "messaging/message-rate-exceeded": "not now",
  "messaging/device-message-rate-exceeded": "later",
  "messaging/topics-message-rate-exceeded": "not now",
  "messaging/topics-subscription-rate-exceeded": "not now",
  "messaging/third-party-auth-error": "later",
  "messaging/authentication-error": "not now",
  "messaging/server-unavailable": "later",
  "messaging/internal-error": "later",
  "messaging/unknown-error": "later",
};

/** The codes that there are, as far as they are known. */
export const PUSH_CODES: readonly string[] = [
  ...Object.keys(KIND_BY_CODE),
  ...["app/network-error", "app/network-timeout"],
  ...[UNAUTHENTICATED_CODE, PERMISSION_DENIED_CODE, NOT_FOUND_CODE],
  ...["push/credentials-refused", "push/token-endpoint-unavailable", "push/unreachable", "push/unknown-error"],
  ...["push/deadline-exceeded", "push/closed"],
];

/** Whether it has to be pushed again. */
export function isPostponed(result: PushResult): result is Postponed {
  return result.outcome === "retry" || result.outcome === "unanswered" || result.outcome === "untried";
}

interface SdkError {
  code?: unknown;
  cause?: unknown;
  httpResponse?: { status?: unknown; data?: unknown; headers?: unknown };
}

/**
 * Reads an error of the SDK, whatever its shape. Codes outside the table (the SDK's `app/network-error`, ... and anything
 * unknown) leave it open whether FCM has the push.
 */
export function outcomeOfError(error: unknown): PushResult {
  const { code: sdkCode, cause, httpResponse } = (isObject(error) ? error : {}) as SdkError;
  const code = typeof sdkCode === "string" && CODE.test(sdkCode) ? sdkCode : "push/unknown-error";
  if (code === NO_ACCESS_TOKEN_CODE) return outcomeOfTokenError(cause);
  if (isUnreachable(cause)) return untried("push/unreachable");
  // Over HTTP/2 it bundles a push's own error with those of the connection; the first is the push's.
  if (cause instanceof AggregateError) return outcomeOfError(cause.errors[0]);
  if (!httpResponse && !Object.hasOwn(KIND_BY_CODE, code)) return { outcome: "unanswered", code };
  return outcomeOfAnswer(code, httpResponse);
}

function outcomeOfAnswer(code: string, httpResponse: SdkError["httpResponse"]): PushResult {
  const fcmCode = fcmErrorCode(httpResponse?.data);
  const kind = Object.hasOwn(KIND_BY_CODE, code) ? KIND_BY_CODE[code as keyof typeof KIND_BY_CODE] : "later";
  const wait = retryAfter(httpResponse?.headers);
  switch (kind) {
    case "device gone":
      return fcmCode === "UNREGISTERED" ? { outcome: "unregistered" } : untried(NOT_FOUND_CODE, wait);
    case "wrong project":
      return fcmCode === "SENDER_ID_MISMATCH" ? { outcome: "rejected", code } : untried(PERMISSION_DENIED_CODE, wait);
    case "refused":
      // Without a response the SDK refused it itself; with one that is not JSON some proxy did, not FCM.
      return !httpResponse || isObject(httpResponse.data) ? { outcome: "rejected", code } : untried(code, wait);
    case "not now":
      return untried(code, code === QUOTA_CODE ? { retryAfterSeconds: QUOTA_PAUSE_SECONDS, ...wait } : wait);
    case "later":
      if (httpResponse?.status === 401 && fcmCode === undefined) return untried(UNAUTHENTICATED_CODE, wait);
      return { outcome: "retry", code, ...wait };
  }
}

/** Why there is no access token: the key is not accepted (a person must act), or the token endpoint is not there (waiting helps). */
export function outcomeOfTokenError(error: unknown): Postponed {
  const status = isObject(error) && typeof error.status === "number" ? error.status : 0;
  const isRefusal = status >= 400 && status < 500 && status !== 408 && status !== 429;
  return untried(isRefusal ? "push/credentials-refused" : "push/token-endpoint-unavailable");
}

function untried(code: string, wait: Pick<Postponed, "retryAfterSeconds"> = {}): Postponed {
  return { outcome: "untried", code, ...wait };
}

/** Whether the error of a connection, or one of those it bundles, says that there never was one. */
function isUnreachable(error: unknown): boolean {
  if (!isObject(error)) return false;
  if (typeof error.code === "string" && UNREACHABLE.test(error.code)) return true;
  return isUnreachable(error.cause) || (Array.isArray(error.errors) && error.errors.some(isUnreachable));
}

/** The header in seconds. A date is taken against the answer's own, so that no clock of ours matters. */
function retryAfter(headers: unknown): Pick<Postponed, "retryAfterSeconds"> {
  const { "retry-after": value, date } = isObject(headers) ? headers : {};
  if (typeof value !== "string") return {};
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.parse(String(date))) / 1_000;
  return seconds > 0 ? { retryAfterSeconds: Math.min(Math.ceil(seconds), MAX_RETRY_AFTER_SECONDS) } : {};
}

/** The errorCode of Google's FcmError detail: only FCM itself says it. */
function fcmErrorCode(data: unknown): string | undefined {
  const error = isObject(data) ? data.error : undefined;
  const details = isObject(error) && Array.isArray(error.details) ? error.details : [];
  const detail = details.find(
    (each) => isObject(each) && each["@type"] === "type.googleapis.com/google.firebase.fcm.v1.FcmError",
  );
  return typeof detail?.errorCode === "string" ? detail.errorCode : undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
