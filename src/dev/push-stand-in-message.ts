/**
 * What FCM's `messages:send` accepts and how it refuses: the checks of the request, and Google's error bodies. Pure
 * decisions; the server in push-stand-in.ts carries them out.
 */

/** An HTTP answer: a body that is no text is sent as JSON. */
export interface Answer {
  status: number;
  headers?: Record<string, string>;
  body: unknown;
}

export type FcmMessage = Record<string, unknown>;

/** FCM's own name for a refusal, in the details of an error body. */
type FcmErrorCode =
  | "INVALID_ARGUMENT"
  | "UNREGISTERED"
  | "SENDER_ID_MISMATCH"
  | "QUOTA_EXCEEDED"
  | "UNAVAILABLE"
  | "INTERNAL"
  | "THIRD_PARTY_AUTH_ERROR";

/** At most this many bytes of keys and values in `data` and of values in `notification`, together. */
const MAX_PAYLOAD_BYTES = 4096;

const REQUEST_FIELDS = ["message", "validate_only", "validateOnly"];
const TARGET_FIELDS = ["token", "fid", "topic", "condition"];
const MESSAGE_FIELDS = [
  ...TARGET_FIELDS,
  ...["name", "data", "notification", "android", "webpush", "apns", "fcm_options", "fcmOptions"],
];
const NOTIFICATION_FIELDS = ["title", "body", "image"];
const RESERVED_DATA_KEY = /^(from$|message_type$|google\.|gcm\.)/;
const ANDROID_PRIORITIES = ["normal", "high", "NORMAL", "HIGH"];
const DURATION = /^\d{1,12}(\.\d{1,9})?s$/;

/** Google's error body: `{error: {code, message, status, details}}`. */
export function googleError(code: number, status: string, message: string, details?: object[]): Answer {
  return { status: code, body: { error: { code, message, status, ...(details && { details }) } } };
}

/** A refusal by FCM itself, recognisable by its FcmError detail. */
export function fcmError(code: number, status: string, errorCode: FcmErrorCode, message: string): Answer {
  const detail = { "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode };
  return googleError(code, status, message, [detail]);
}

/** What is wrong with the request or its message. */
export function invalidArgument(message: string): Answer {
  return fcmError(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", message);
}

/** No bearer token, or none that counts. */
export function unauthenticated(): Answer {
  const message =
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid " +
    "authentication credential.";
  const headers = { "www-authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"' };
  return { ...googleError(401, "UNAUTHENTICATED", message), headers };
}

/** The checks of a send request in FCM's order: its message, or the refusal to answer. */
export function readSendRequest(body: unknown): { message: FcmMessage; validateOnly: boolean } | { refusal: Answer } {
  if (!isObject(body)) return refused("Invalid JSON payload received.");
  const unknownField = Object.keys(body).find((field) => !REQUEST_FIELDS.includes(field));
  if (unknownField !== undefined) return refused(cannotFind(unknownField));
  const { message } = body;
  if (!isObject(message)) return refused("Required field 'message' is missing or not an object.");
  const validateOnly = body.validate_only ?? body.validateOnly ?? false;
  if (typeof validateOnly !== "boolean") return refused("Invalid value at 'validate_only' (TYPE_BOOL)");
  const problem = messageProblem(message);
  return problem === undefined ? { message, validateOnly } : refused(problem);
}

function refused(message: string): { refusal: Answer } {
  return { refusal: invalidArgument(message) };
}

function messageProblem(message: FcmMessage): string | undefined {
  const unknownField = Object.keys(message).find((field) => !MESSAGE_FIELDS.includes(field));
  if (unknownField !== undefined) return cannotFind(unknownField, "message");
  const targets = TARGET_FIELDS.filter((field) => message[field] !== undefined);
  const [target, second] = targets;
  if (target === undefined || message[target] === "") return "Recipient of the message is not set.";
  if (second !== undefined) {
    return `Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '${second}'`;
  }
  if (typeof message[target] !== "string") return `Invalid value at 'message.${target}' (TYPE_STRING)`;
  for (const section of ["notification", "data", "android", "webpush", "apns"]) {
    if (message[section] !== undefined && !isObject(message[section])) return `Invalid value at 'message.${section}'`;
  }
  return payloadProblem(message) ?? platformProblem(message);
}

function payloadProblem(message: FcmMessage): string | undefined {
  const notification = (message.notification ?? {}) as Record<string, unknown>;
  const data = (message.data ?? {}) as Record<string, unknown>;
  const unknownField = Object.keys(notification).find((field) => !NOTIFICATION_FIELDS.includes(field));
  if (unknownField !== undefined) return cannotFind(unknownField, "message.notification");
  for (const [section, fields] of Object.entries({ notification, data })) {
    const notText = Object.keys(fields).find((field) => typeof fields[field] !== "string");
    if (notText !== undefined) return `Invalid value at 'message.${section}.${notText}' (TYPE_STRING)`;
  }
  const reserved = Object.keys(data).find((key) => RESERVED_DATA_KEY.test(key));
  if (reserved !== undefined) return `Invalid data payload key: ${reserved}`;
  const texts = [...Object.values(notification), ...Object.keys(data), ...Object.values(data)] as string[];
  const payloadBytes = texts.reduce((total, text) => total + Buffer.byteLength(text), 0);
  return payloadBytes > MAX_PAYLOAD_BYTES ? "Message is too big" : undefined;
}

/** How the push is to be delivered: an enum and a duration for Android, headers for the others. */
function platformProblem(message: FcmMessage): string | undefined {
  const { priority, ttl } = (message.android ?? {}) as Record<string, unknown>;
  if (priority !== undefined && !ANDROID_PRIORITIES.includes(String(priority))) {
    return `Invalid value at 'message.android.priority' (TYPE_ENUM), "${priority}"`;
  }
  if (ttl !== undefined && !(typeof ttl === "string" && DURATION.test(ttl))) {
    return "Invalid value at 'message.android.ttl' (type.googleapis.com/google.protobuf.Duration)";
  }
  for (const section of ["webpush", "apns"]) {
    const { headers = {} } = (message[section] ?? {}) as Record<string, unknown>;
    if (!isObject(headers)) return `Invalid value at 'message.${section}.headers'`;
    const notText = Object.keys(headers).find((name) => typeof headers[name] !== "string");
    if (notText !== undefined) return `Invalid value at 'message.${section}.headers.${notText}' (TYPE_STRING)`;
  }
  return undefined;
}

function cannotFind(field: string, path?: string): string {
  const where = path === undefined ? "" : ` at '${path}'`;
  return `Invalid JSON payload received. Unknown name "${field}"${where}: Cannot find field.`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
