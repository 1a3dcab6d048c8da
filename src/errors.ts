/**
 * One way to fail. An error that a client may act on is a ConnectError with a fixed public message and a stable reason
 * (google.rpc.ErrorInfo, domain "concierge"); whatever else is thrown reaches the client as INTERNAL without its text.
 * An error that stops the process at start is a StartupError, whose exit code tells an operator what kind it was.
 */
import { create, type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";

/** The domain of every ErrorInfo. */
export const ERROR_DOMAIN = "concierge";

/** Every reason a client can see. A reason, once published, keeps its meaning. */
export type Reason =
  // the request itself
  | "INVALID_REQUEST"
  | "INVALID_FIELD_MASK"
  | "MALFORMED_MESSAGE"
  | "MESSAGE_TOO_LARGE"
  | "DEADLINE_EXCEEDED"
  | "CANCELED"
  | "UNIMPLEMENTED"
  | "RATE_LIMITED"
  // who is calling
  | "UNAUTHENTICATED"
  | "REPLAY"
  | "CALLER_NOT_ALLOWED"
  | "AUTH_STALE"
  | "TOKEN_EXPIRED"
  | "REAUTHENTICATE"
  | "NO_ORGANIZATION"
  | "PERMISSION_MISSING"
  | "INVALID_CONSISTENCY_TOKEN"
  // faults
  | "INTERNAL"
  | "UNAVAILABLE"
  | "OVERLOADED"
  | "DATABASE_UNAVAILABLE"
  | "DEPENDENCY_UNAVAILABLE"
  | "CIRCUIT_OPEN"
  | "CONFLICT"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "DRAINING"
  // feeds
  | "CURSOR_LOST"
  | "UNKNOWN_EVENT_TYPE"
  // auth
  | "EMAIL_TAKEN"
  | "PASSWORD_TOO_SHORT"
  | "PASSWORD_TOO_LONG"
  | "PASSWORD_TOO_WEAK"
  | "PASSWORD_COMPROMISED"
  | "BAD_CREDENTIALS"
  | "TOO_MANY_HASHES"
  | "TOO_MANY_ATTEMPTS"
  | "ACCOUNT_NOT_FOUND"
  | "SESSION_NOT_FOUND"
  | "UNKNOWN_AUDIENCE"
  | "SIGNING_KEY_NOT_FOUND"
  | "LAST_SIGNING_KEY"
  | "NO_SIGNING_KEY"
  | "BAD_MAIL_TOKEN"
  | "MAIL_DISABLED"
  // access
  | "ROLE_NOT_FOUND"
  | "ROLE_EXISTS"
  | "ROLE_BUILT_IN"
  | "ADMIN_EXISTS"
  | "NOT_BOOTSTRAPPED"
  | "LAST_ADMIN"
  | "UNKNOWN_PERMISSION"
  | "PERMISSION_EXISTS"
  | "PERMISSION_NOT_HELD"
  | "TOO_MANY_PERMISSIONS"
  | "TOO_MANY_ROLES"
  | "TOO_MANY_ASSIGNMENTS"
  // organization
  | "ORGANIZATION_NOT_FOUND"
  | "ORGANIZATION_SUSPENDED"
  | "TOO_MANY_ORGANIZATIONS"
  | "SLUG_TAKEN"
  | "SETTINGS_TOO_LARGE"
  | "MEMBER_NOT_FOUND"
  | "ALREADY_A_MEMBER"
  | "LAST_OWNER"
  | "NO_OWNER"
  | "INVITATION_NOT_FOUND"
  | "TOO_MANY_INVITATIONS"
  | "EMAIL_NOT_VERIFIED"
  | "BRANCH_NOT_FOUND"
  | "BRANCH_EXISTS"
  | "TOO_MANY_BRANCHES"
  // user
  | "USER_NOT_FOUND"
  | "ARTIST_NOT_FOUND"
  | "NOT_AN_ARTIST"
  // notification
  | "NOTIFICATION_NOT_FOUND"
  | "INVALID_PAGE_TOKEN"
  | "INVALID_CURSOR"
  | "TOO_MANY_STREAMS"
  | "DEVICE_NOT_FOUND"
  | "TOO_MANY_MUTED_TOPICS"
  | "IDEMPOTENCY_KEY_REUSED"
  | "NO_RECIPIENTS"
  | "TOO_MANY_RECIPIENTS"
  | "TOO_MANY_NOTIFICATIONS"
  | "LEASE_LOST";

/** Errors whose every word was chosen for clients. */
const fitForClients = new WeakSet<ConnectError>();

/** Whether an error may leave as it is: it was made here, and did not arrive from another service. */
export function isFitForClients(error: ConnectError): boolean {
  return fitForClients.has(error) && !error.isWireError;
}

/** Lets an error leave as it is that fail() did not make. */
export function releaseToClients(error: ConnectError): ConnectError {
  fitForClients.add(error);
  return error;
}

/**
 * Makes the error to throw. The message is public and fixed: no secret, no SQL, no name of a table, no foreign text.
 * `retryAfterMs` adds google.rpc.RetryInfo where waiting helps.
 */
export function fail(
  code: Code,
  reason: Reason,
  message: string,
  options: { retryAfterMs?: number; cause?: unknown } = {},
): ConnectError {
  const error = withReason(new ConnectError(message, code, undefined, undefined, options.cause), reason);
  fitForClients.add(error);
  if (options.retryAfterMs !== undefined) {
    const value = create(RetryInfoSchema, { retryDelay: durationFromMs(Math.ceil(options.retryAfterMs)) });
    addDetail(error, RetryInfoSchema, value);
  }
  return error;
}

/** The error of a call that stands on another service which does not answer. */
export function dependencyUnavailable(cause: unknown): ConnectError {
  return fail(Code.Unavailable, "DEPENDENCY_UNAVAILABLE", "a service behind this one does not answer", {
    cause,
    retryAfterMs: 1_000,
  });
}

/** Gives an error its reason, in place. */
export function withReason(error: ConnectError, reason: Reason): ConnectError {
  addDetail(error, ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: ERROR_DOMAIN }));
  return error;
}

/** Adds a message to what an error tells beside its code. */
export function addDetail<Desc extends DescMessage>(error: ConnectError, desc: Desc, value: MessageShape<Desc>): void {
  error.details.push(new Detail(desc, value));
}

/** Loggers make JSON of errors, which descriptors cannot be: there a detail is as in an error that was received. */
class Detail<Desc extends DescMessage> {
  readonly desc: Desc;
  readonly value: MessageShape<Desc>;

  constructor(desc: Desc, value: MessageShape<Desc>) {
    this.desc = desc;
    this.value = value;
  }

  toJSON(): { type: string; debug: unknown } {
    return { type: this.desc.typeName, debug: toJson(this.desc, this.value) };
  }
}

/** The stable reason of an error, whether made here by fail() or received from a server. */
export function reasonOf(error: unknown): Reason | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  const info = error.findDetails(ErrorInfoSchema).find((detail) => detail.domain === ERROR_DOMAIN);
  return info?.reason as Reason | undefined;
}

/** Exit codes, after sysexits.h: what an operator or a supervisor may decide by. */
export const ExitCode = { ok: 0, failure: 1, usage: 64, unavailable: 69, config: 78, interrupted: 130 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Stops the process at start with one clear line and an exit code; never carries a secret. */
export class StartupError extends Error {
  override readonly name = "StartupError";
  readonly exitCode: ExitCode;
  constructor(message: string, exitCode: ExitCode = ExitCode.config, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

export { Code };
