/**
 * Logs: one JSON object a line, to stdout unless told otherwise. No secret gets out: values under sensitive names are
 * masked at any depth, and so are passwords in URLs, bearer tokens and JWTs inside any text. Both happen on the finished
 * line, so no way of logging (field, child binding, message, stack) goes around them. Fields that merely contain a
 * sensitive word in the middle of their name (`tokenCount`) are left alone.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { type DestinationStream, type Logger as PinoLogger, pino } from "pino";
import { type Clock, systemClock } from "./clock.ts";
import type { Mode, PlatformConfig } from "./config.ts";
import { reasonOf, StartupError } from "./errors.ts";

export type Logger = PinoLogger;

export interface LogOptions {
  level: PlatformConfig["logLevel"];
  mode: Mode;
  /** Where the lines go; stdout by default. */
  destination?: DestinationStream;
  clock?: Clock;
}

type Fields = Record<string, unknown>;

const redacted = "[redacted]";
const maxCauses = 4;
const maxErrorDepth = 6;

/**
 * Makes the process's logger. Log an error as `log.error({ error }, "what was tried")`; without a message the error's own
 * (made safe) is used. Times are ISO 8601, UTC.
 */
export function createLogger({ level, mode, destination, clock = systemClock }: LogOptions): Logger {
  const options = {
    level,
    base: { mode },
    errorKey: "error",
    timestamp: () => `,"time":"${new Date(clock.now()).toISOString()}"`,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: Fields) => (isFlat(fields) ? fields : (describeErrors(fields) as Fields)),
    },
    // pino's own serializer would rebuild what is described already; these still see the errors in child bindings.
    serializers: { error: (value: unknown) => describeErrors(value), err: (value: unknown) => describeErrors(value) },
    hooks: { logMethod: nameTheError, streamWrite: redactLine },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** Without a message pino takes the error's own, which may quote the parameters of a query. */
function nameTheError(this: Logger, args: Parameters<pino.LogFn>, method: pino.LogFn) {
  const [first, message, ...rest] = args as [unknown, string | undefined, ...unknown[]];
  if (first instanceof Error) return method.call(this, { error: first }, message ?? safeMessage(first), ...rest);
  const error = isRecord(first) ? (first.error ?? first.err) : undefined;
  if (message === undefined && error instanceof Error) return method.call(this, first, safeMessage(error));
  return method.apply(this, args);
}

/**
 * Replaces errors by their description, wherever they stand: as they are, JSON would show their other properties (the
 * values of a query, the row that a constraint refused) and neither type nor message.
 */
function describeErrors(value: unknown, depth = 0): unknown {
  if (value instanceof Error) return describeError(value);
  if (depth > maxErrorDepth || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => describeErrors(item, depth + 1));
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, describeErrors(item, depth + 1)]));
}

/** No value that could be or hold an error. */
function isFlat(fields: Fields): boolean {
  for (const name in fields) if (typeof fields[name] === "object" && fields[name] !== null) return false;
  return true;
}

/** What a log line says of an error. `stack` is there only when nobody meant it to happen. */
export interface ErrorFields {
  type: string;
  message: string;
  code?: string | number;
  reason?: string;
  stack?: string[];
  cause?: ErrorFields;
}

/** Describes an error and its causes by type, message and code; other properties (SQL details, requests) stay out. */
export function describeError(error: Error, depth = 1): ErrorFields {
  const fields: ErrorFields = { type: typeOf(error), message: safeMessage(error) };
  const code = error instanceof ConnectError ? Code[error.code] : "code" in error ? error.code : undefined;
  if (typeof code === "string" || typeof code === "number") fields.code = code;
  const reason = reasonOf(error);
  if (reason !== undefined) fields.reason = reason;
  if (!isExpected(error)) fields.stack = framesOf(error);
  if (error.cause instanceof Error && depth < maxCauses) fields.cause = describeError(error.cause, depth + 1);
  return fields;
}

function typeOf(error: Error) {
  return error.name === "Error" ? error.constructor.name : error.name;
}

/** A failed query's message ends with the values it was run with. */
function safeMessage(error: Error) {
  return "query" in error && "params" in error ? "a database query failed" : error.message;
}

/** An answer to a caller or to an operator, as opposed to a fault in the program. */
function isExpected(error: Error) {
  if (error instanceof StartupError) return true;
  if (!(error instanceof ConnectError)) return false;
  return ![Code.Unknown, Code.Internal, Code.DataLoss].includes(error.code);
}

/** The stack without its first lines, which repeat the message. */
function framesOf(error: Error) {
  return (error.stack ?? "")
    .split("\n")
    .filter((line) => /^\s+at /.test(line))
    .map((line) => line.trim());
}

/** Every sensitive name ends with one of these; the name decides, not the value. */
const sensitiveNameHint =
  /(?:password|passwd|passphrase|token|authorization|secret|key|cookie|credential|credentials|params)s?"\s*:/i;
const sensitiveName = /(?:password|passwd|passphrase|token|authorization|secret|cookie|credential|params)s?$/;
/** `key` alone and keys of a secret kind, but not idempotencyKey, collapseKey or publicKey. */
const sensitiveKeyName = /(?:^|private|signing|token|secret|api|service|hmac|encryption|refresh|access)keys?$/;

function isSensitive(name: string) {
  const plain = name.toLowerCase().replace(/[^a-z]/g, "");
  return sensitiveName.test(plain) || sensitiveKeyName.test(plain);
}

/** Masks one finished line. Only a line with a suspicious name is parsed again (about 5 us); most are not. */
function redactLine(line: string) {
  const masked = redactText(line);
  if (!sensitiveNameHint.test(masked)) return masked;
  return `${JSON.stringify(JSON.parse(masked), (name, value) => (isSensitive(name) ? mask(value) : value))}\n`;
}

/** Flags and absent values tell nothing and are useful. */
function mask(value: unknown) {
  return value === null || typeof value === "boolean" ? value : redacted;
}

// These work on JSON text: `\\.` steps over an escaped character, so that a line stays one valid JSON object. The
// bound keeps the first from taking seconds on a hostile text of 100 kB.
const urlPassword = /(:\/\/[^\s"\\/:@]*:)(?:[^\s"\\]|\\.){0,512}@/g;
const bearer = /\b(bearer|basic) +[\w.~+/=-]{8,}/gi;
/** Dotted runs that may hold a JWT. A run is looked at once: scanning from every "eyJ" would be quadratic. */
const dotted = /(?<![\w-])[\w-]{11,}(?:\.[\w-]*){1,4}/g;
const jwtStart = /\beyJ[\w-]{8}/;
const assignment = new RegExp(
  [
    String.raw`((?:password|passwd|passphrase|secret)\s*[=:]\s*(?:\\"|')?`,
    String.raw`(?:token|key|credentials?)=(?:\\"|')?`,
    String.raw`(?:password|passwd|passphrase|secret|token|key|authorization|cookie)\\"\s*:\s*\\")(?:[^\s"'\\,;&]|\\[^n"])+`,
  ].join("|"),
  "gi",
);

/** Masks what looks like a secret inside text, whatever it is called: for messages of foreign errors, too. */
export function redactText(text: string): string {
  const plain = text.replace(urlPassword, `$1${redacted}@`).replace(bearer, `$1 ${redacted}`);
  // Looking at dotted runs takes 3 us a line; most lines have nothing that a JWT begins with.
  const withoutJwt = plain.includes("eyJ") ? plain.replace(dotted, maskJwt) : plain;
  return withoutJwt.replace(assignment, `$1${redacted}`);
}

function maskJwt(run: string): string {
  const start = run.search(jwtStart);
  return start < 0 ? run : run.slice(0, start) + redacted;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
