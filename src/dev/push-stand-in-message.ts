/**
 * What FCM's `messages:send` accepts and how it refuses: the checks of the request, Google's error bodies, and the
 * faults a registration token provokes by its prefix. Pure decisions; the server in push-stand-in.ts carries them out.
 */

/** An HTTP answer with a JSON body. */
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

/** Google's error body: `{error: {code, message, status, details}}`. */
export function googleError(code: number, status: string, message: string, details?: object[]): Answer {
  return { status: code, body: { error: { code, message, status, ...(details && { details }) } } };
}

/** A refusal by FCM itself, recognisable by its FcmError detail. */
function fcmError(code: number, status: string, errorCode: FcmErrorCode, message: string): Answer {
  const detail = { "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode };
  return googleError(code, status, message, [detail]);
}

/** The checks of a send request in FCM's order: its message, or the refusal to answer. */
export function readSendRequest(body: unknown): { message: FcmMessage; validateOnly: boolean } | { refusal: Answer } {
  if (!isObject(body)) return invalid("Invalid JSON payload received.");
  const unknownField = Object.keys(body).find((field) => !REQUEST_FIELDS.includes(field));
  if (unknownField !== undefined) return invalid(cannotFind(unknownField));
  const { message } = body;
  if (!isObject(message)) return invalid("Required field 'message' is missing or not an object.");
  const validateOnly = body.validate_only ?? body.validateOnly ?? false;
  if (typeof validateOnly !== "boolean") return invalid("Invalid value at 'validate_only' (TYPE_BOOL)");
  const problem = messageProblem(message);
  return problem === undefined ? { message, validateOnly } : invalid(problem);
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
  return payloadProblem(message);
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

/** What a registration token provokes. Exactly one of the fields is set, or none for an ordinary token. */
interface Fault {
  /** Refuse with this. */
  refusal?: Answer;
  /** Accept, but answer only after so many milliseconds. */
  delayMs?: number;
  /** Accept, then cut the connection instead of answering: the sender cannot know. */
  dropAnswer?: boolean;
}

const FAULTY_TOKEN =
  /^(unregistered|invalid|sender-mismatch|quota|unavailable|internal|apns|flaky|slow|dropped)-(?:(\d{1,6})-)?/;

/**
 * The fault a registration token asks for by its prefix; anybody who can register a device can provoke each of them.
 * A number after the prefix (`quota-5-anything`) is its parameter.
 *
 * | prefix | effect |
 * |---|---|
 * | `unregistered-` | 404 UNREGISTERED: the app was removed from the device |
 * | `invalid-` | 400 INVALID_ARGUMENT: not a registration token |
 * | `sender-mismatch-` | 403 SENDER_ID_MISMATCH: the token belongs to another project |
 * | `quota-[seconds-]` | 429 QUOTA_EXCEEDED with Retry-After (30 s) |
 * | `unavailable-[seconds-]` | 503 UNAVAILABLE, with Retry-After if a number is given |
 * | `internal-` | 500 INTERNAL |
 * | `apns-` | 401 THIRD_PARTY_AUTH_ERROR: the project's APNs certificate is missing |
 * | `flaky-[tries-]` | 500 INTERNAL for the first tries (1) of this very token, then accepted |
 * | `slow-[milliseconds-]` | accepted, answered late (1,000 ms) |
 * | `dropped-` | accepted, and the connection is cut instead of an answer |
 *
 * @param earlierTries how often this token was sent to before
 */
export function faultOf(token: string, earlierTries: number): Fault {
  const [, fault, digits] = FAULTY_TOKEN.exec(token) ?? [];
  const parameter = digits === undefined ? undefined : Number(digits);
  switch (fault) {
    case "unregistered":
      return { refusal: fcmError(404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found.") };
    case "invalid":
      return { refusal: invalid("The registration token is not a valid FCM registration token").refusal };
    case "sender-mismatch":
      return { refusal: fcmError(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch") };
    case "quota":
      return {
        refusal: retryAfter(fcmError(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded."), parameter ?? 30),
      };
    case "unavailable":
      return {
        refusal: retryAfter(fcmError(503, "UNAVAILABLE", "UNAVAILABLE", "The service is unavailable."), parameter),
      };
    case "internal":
      return { refusal: internalError() };
    case "apns": {
      const message = "Auth error from APNS or Web Push Service";
      return { refusal: fcmError(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", message) };
    }
    case "flaky":
      return earlierTries < (parameter ?? 1) ? { refusal: internalError() } : {};
    case "slow":
      return { delayMs: parameter ?? 1000 };
    case "dropped":
      return { dropAnswer: true };
    default:
      return {};
  }
}

function internalError(): Answer {
  return fcmError(500, "INTERNAL", "INTERNAL", "Internal error encountered.");
}

function retryAfter(answer: Answer, seconds: number | undefined): Answer {
  return seconds === undefined ? answer : { ...answer, headers: { "retry-after": String(seconds) } };
}

function invalid(message: string): { refusal: Answer } {
  return { refusal: fcmError(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", message) };
}

function cannotFind(field: string, path?: string): string {
  const where = path === undefined ? "" : ` at '${path}'`;
  return `Invalid JSON payload received. Unknown name "${field}"${where}: Cannot find field.`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
