/**
 * What a database error means to a client. Drizzle wraps the driver's error and puts the statement with its parameters
 * into the message, PostgreSQL names constraints and values: none of that may reach a client or a log.
 */
import { ConnectError } from "@connectrpc/connect";
import { Code, fail } from "../errors.ts";

/** The database cannot be reached or does not answer: worth waiting for, never a reason to stop. Carries no URL. */
export class DatabaseUnavailable extends Error {
  override readonly name = "DatabaseUnavailable";
  /** As postgres.js would say it, so that it is recognized under Drizzle's wrapping too. */
  readonly code = "CONNECTION_CLOSED";
}

/** The codes of postgres.js and of sockets that mean the server was not reached or the connection broke. */
const CONNECTION_FAULTS = new Set([
  "CONNECT_TIMEOUT",
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  // we have no file or port left for another connection
  "EMFILE",
  "ENFILE",
  "EADDRNOTAVAIL",
]);

/** SQLSTATE classes and codes: connection exceptions, no resources (disk full), shutting down, a standby. */
const UNAVAILABLE_STATE = /^(08...|53...|57P0[1-5]|25006|25P03)$/;

/** Of class 53 without too_many_connections (53300), which is said before there is a connection. */
const OUT_OF_RESOURCES = new Set(["53000", "53100", "53200", "53400"]);

interface DriverError {
  code: string;
  constraint_name?: string;
}

/** The driver's error under Drizzle's wrapping; our own ConnectErrors are answers, not causes to look behind. */
function driverError(error: unknown): DriverError | undefined {
  let current = error;
  for (let depth = 0; depth < 5 && current instanceof Error && !(current instanceof ConnectError); depth++) {
    if ("code" in current && typeof current.code === "string") return current as Error & DriverError;
    current = current.cause;
  }
  return undefined;
}

/** The SQLSTATE (five characters) of a database error, wrapped or not. */
export function sqlStateOf(error: unknown): string | undefined {
  const code = driverError(error)?.code;
  return code !== undefined && /^[0-9A-Z]{5}$/.test(code) && code !== "EPIPE" ? code : undefined;
}

/** The unique constraint a write ran into (23505), for a domain that has a reason of its own for it (EMAIL_TAKEN). */
export function constraintOf(error: unknown): string | undefined {
  return sqlStateOf(error) === "23505" ? driverError(error)?.constraint_name : undefined;
}

/** True if the database was not reached, broke the connection, or cannot work now. */
export function isUnavailable(error: unknown): boolean {
  const code = driverError(error)?.code;
  return code !== undefined && (CONNECTION_FAULTS.has(code) || UNAVAILABLE_STATE.test(code));
}

/**
 * True if the server lacks what it takes to do this (a full disk, no memory). It is UNAVAILABLE, too, but the connection is sound, and
 * what needs less, as most reads do, goes on.
 */
export function isOutOfResources(error: unknown): boolean {
  return OUT_OF_RESOURCES.has(sqlStateOf(error) ?? "");
}

/**
 * True if the same transaction may succeed when it is run again: serialization failure, deadlock, a prepared statement that the
 * server does not have (behind a pooler) or cannot use any more (a table has changed).
 */
export function isRetryable(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === "40001" || state === "40P01" || state === "26000" || state === "0A000";
}

/**
 * The ConnectError for a database error a client can understand; undefined for everything else, which is a defect and
 * must be answered with INTERNAL. Use `withoutData` before logging one of those.
 */
export function toConnectError(error: unknown): ConnectError | undefined {
  const options = { cause: withoutData(error) };
  if (isUnavailable(error)) {
    return fail(Code.Unavailable, "DATABASE_UNAVAILABLE", "the database is not available, try again", options);
  }
  switch (sqlStateOf(error)) {
    case "23505":
      return fail(Code.AlreadyExists, "ALREADY_EXISTS", "it exists already", options);
    case "23503":
      return fail(Code.NotFound, "NOT_FOUND", "something it refers to does not exist", options);
    case "40001":
    case "40P01":
    case "55P03":
      return fail(Code.Aborted, "CONFLICT", "another change was in the way, try again", options);
    case "57014":
      return fail(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "the database took too long", options);
    case "22P02":
    case "22P05":
    case "22021":
      return fail(Code.InvalidArgument, "INVALID_REQUEST", "the request holds text that cannot be stored", options);
    default:
      return undefined;
  }
}

/** A database error as it may be logged: its code, constraint and stack without statement, parameters and values. */
export function withoutData(error: unknown): unknown {
  const driver = driverError(error);
  const wrapped = error instanceof Error && "query" in error;
  if (!driver && !wrapped) return error;
  const constraint = driver?.constraint_name ? ` (${driver.constraint_name})` : "";
  const clean = new Error(`database error ${driver?.code ?? "without a code"}${constraint}`);
  const frames = (error as Error).stack?.match(/^ {4}at .*$/gm);
  clean.stack = [`Error: ${clean.message}`, ...(frames ?? [])].join("\n");
  return clean;
}
