/**
 * What every guard does, whatever it stands in front of: find the one access token among the headers, have it judged, and turn every
 * reason not to go on into an answer that is fit for strangers. Closed: only authorize() lets somebody through, and whatever else goes
 * wrong is a refusal.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { dependencyUnavailable, fail, isFitForClients, reasonOf } from "../../errors.ts";
import { toConsistencyToken, wantedRevisions } from "../../rights/revisions.ts";
import type { WhenStale } from "../../token/session-check.ts";
import type { AuthClient } from "../auth-client.ts";
import type { Principal } from "../results.ts";

/** What a guard needs of createAuthClient(). */
export type GuardClient = Pick<AuthClient, "authorize">;

export interface GuardOptions {
  /** What becomes of requests that nobody can decide on fresh knowledge; "closed" unless told otherwise. */
  whenStale?: WhenStale;
}

/** Whom a guard lets through: anybody signed in, or who holds the permission in the organization of the access token. */
export interface GuardRule extends GuardOptions {
  permission?: string;
}

/** Middleware of one framework. */
export interface Guards<Middleware> {
  /** Lets through whoever is signed in. */
  requireUser(options?: GuardOptions): Middleware;
  /** Lets through who holds the permission, such as "orders:read", in the organization of the access token. */
  requirePermission(permission: string, options?: GuardOptions): Middleware;
}

/** A refusal as plain HTTP has it. */
export interface Refusal {
  /** 400, 401, 403, 500 or 503, as a rule. */
  status: number;
  headers: Record<string, string>;
  /** JSON: code and message as Connect writes them, and our reason. */
  body: string;
}

const BEARER = /^Bearer ([^\s]+)$/i;

/** Names and values by turns, each line by itself, as node:http keeps them. */
export type HeaderLines = readonly string[];

/** Of Headers, which join repeated lines by commas: what is read here has no comma of its own. */
export function linesOf(headers: Iterable<[string, string]>): HeaderLines {
  return [...headers].flatMap(([name, value]) => value.split(",").flatMap((part) => [name, part.trim()]));
}

/** Throws where the permission is missing: the rule would be another one. */
export function permissionRule(permission: string, options: GuardOptions = {}): GuardRule {
  if (!permission) throw new TypeError("requirePermission() takes the name of a permission");
  return { ...options, permission };
}

export function guardsBy<Middleware>(guard: (rule: GuardRule) => Middleware): Guards<Middleware> {
  return {
    requireUser: (options = {}) => guard(options),
    requirePermission: (permission, options) => guard(permissionRule(permission, options)),
  };
}

/** Who sends the request. Throws the refusal: a ConnectError that may be shown to anybody. */
export async function admit(auth: GuardClient, rule: GuardRule, lines: HeaderLines): Promise<Principal> {
  try {
    const consistencyToken = toConsistencyToken(wantedRevisions(lines));
    return await auth.authorize(bearerToken(lines), { ...rule, ...(consistencyToken !== "" && { consistencyToken }) });
  } catch (thrown) {
    throw fitForStrangers(thrown);
  }
}

/** What admit() threw, as HTTP. */
export function refusalOf(thrown: unknown): Refusal {
  const error = fitForStrangers(thrown);
  const { code, rawMessage: message } = error;
  return {
    status: codeToHttpStatus(code),
    headers: { "content-type": "application/json", ...hintsOf(error) },
    body: JSON.stringify({ code: codeToString(code), reason: reasonOf(error), message }),
  };
}

/** The headers that tell a client what to do about a refusal. */
export function hintsOf(error: ConnectError): Record<string, string> {
  const [retry] = error.findDetails(RetryInfoSchema);
  const { seconds = 0n, nanos = 0 } = retry?.retryDelay ?? {};
  return {
    ...(error.code === Code.Unauthenticated && { "www-authenticate": "Bearer" }),
    ...(retry && { "retry-after": String(Number(seconds) + Math.ceil(nanos / 1e9)) }),
  };
}

/**
 * An error that was not made for strangers says nothing of the one who asks, whatever its code is: a service may have refused our own
 * token.
 */
function fitForStrangers(thrown: unknown): ConnectError {
  const { code } = ConnectError.from(thrown);
  if (thrown instanceof ConnectError && isFitForClients(thrown)) return thrown;
  const isAway = code === Code.Unavailable || code === Code.DeadlineExceeded;
  return isAway ? dependencyUnavailable(thrown) : fail(Code.Internal, "INTERNAL", "internal error", { cause: thrown });
}

function bearerToken(lines: HeaderLines): string {
  const values = lines.filter((_, index) => index % 2 === 1 && lines[index - 1]!.toLowerCase() === "authorization");
  const token = values.length === 1 ? BEARER.exec(values[0]!)?.[1] : undefined;
  if (token === undefined) throw fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
  return token;
}
