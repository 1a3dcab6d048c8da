/**
 * What an answer of FCM means for the sender: delivered, dead device, never, or later. A device is given up, and a
 * notification too, only on FCM's own word: a bare 404 or 403 is a wrong project id or a missing role, and would
 * otherwise delete every device there is. Results carry codes only, so no key, token or text of an error can leak
 * through them.
 */
import type { MessagingErrorCode } from "firebase-admin/messaging";

export type PushResult =
  /** FCM has it. `messageId` is FCM's name of the message. */
  | { outcome: "sent"; messageId: string }
  /** The app is gone from this device: delete the device. Others of the same user are not concerned. */
  | { outcome: "unregistered" }
  /** This push will never be accepted; trying again is pointless. The device may still be good for others. */
  | { outcome: "rejected"; code: string }
  /** Not now: rate, outage, network or our own credentials. */
  | { outcome: "retry"; code: string };

// Codes are the SDK's (messaging/..., app/...), and these of ours:
// - push/not-found, push/permission-denied, push/credentials-refused: the project, the role or the key is wrong, for
//   every device, until a person repairs it;
// - push/unauthenticated: the access token was refused; the next send fetches another;
// - push/token-endpoint-unavailable, push/unknown-error;
// - push/deadline-exceeded, push/closed: no answer was waited for; the push may have been delivered.

/** FCM does not accept our access token (any more). */
export const UNAUTHENTICATED_CODE = "push/unauthenticated";
const PERMISSION_DENIED_CODE = "push/permission-denied";
const NOT_FOUND_CODE = "push/not-found";

/** The SDK's code for whatever went wrong in a token exchange; the cause is google-auth-library's error. */
const NO_ACCESS_TOKEN_CODE = "app/invalid-credential";

type Kind = "device gone" | "wrong project" | "refused" | "later";

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

  "messaging/message-rate-exceeded": "later",
  "messaging/device-message-rate-exceeded": "later",
  "messaging/topics-message-rate-exceeded": "later",
  "messaging/topics-subscription-rate-exceeded": "later",
  "messaging/third-party-auth-error": "later",
  "messaging/authentication-error": "later",
  "messaging/server-unavailable": "later",
  "messaging/internal-error": "later",
  "messaging/unknown-error": "later",
};

interface SdkError {
  code?: unknown;
  cause?: unknown;
  httpResponse?: { status?: unknown; data?: unknown };
}

/**
 * Reads an error of the SDK, whatever its shape. Codes outside the table (the SDK's
 * `app/network-error`, ... and anything unknown) mean later.
 */
export function outcomeOfError(error: unknown): PushResult {
  const { code: sdkCode, cause, httpResponse } = (typeof error === "object" && error !== null ? error : {}) as SdkError;
  const code = typeof sdkCode === "string" && /^[a-z-]+\/[a-z-]+$/.test(sdkCode) ? sdkCode : "push/unknown-error";
  if (code === NO_ACCESS_TOKEN_CODE) return { outcome: "retry", code: whyNoAccessToken(cause) };
  // Over HTTP/2 it bundles a push's own error with those of the connection; the first is the push's.
  if (cause instanceof AggregateError) return outcomeOfError(cause.errors[0]);
  const fcmCode = fcmErrorCode(httpResponse?.data);
  const kind = Object.hasOwn(KIND_BY_CODE, code) ? KIND_BY_CODE[code as keyof typeof KIND_BY_CODE] : "later";
  switch (kind) {
    case "device gone":
      return fcmCode === "UNREGISTERED" ? { outcome: "unregistered" } : later(NOT_FOUND_CODE);
    case "wrong project":
      if (fcmCode === "SENDER_ID_MISMATCH") return { outcome: "rejected", code };
      return later(PERMISSION_DENIED_CODE);
    case "refused":
      // Without a response the SDK refused it itself; with one that is not JSON some proxy did, not FCM.
      if (!httpResponse || isObject(httpResponse.data)) return { outcome: "rejected", code };
      return later(code);
    case "later":
      if (httpResponse?.status === 401 && fcmCode === undefined) return later(UNAUTHENTICATED_CODE);
      return later(code);
  }
}

/** Either the key is not accepted (a person must act), or the token endpoint is not there (waiting helps). */
function whyNoAccessToken(cause: unknown): string {
  const status = isObject(cause) && typeof cause.status === "number" ? cause.status : 0;
  const isRefusal = status >= 400 && status < 500 && status !== 408 && status !== 429;
  return isRefusal ? "push/credentials-refused" : "push/token-endpoint-unavailable";
}

function later(code: string): PushResult {
  return { outcome: "retry", code };
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
