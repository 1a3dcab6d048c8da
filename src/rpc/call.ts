/**
 * What is known of one call while it runs: who calls, what is asked, how it ended. Made when the request's headers arrive,
 * carried through Connect's context values, accounted for once when the response is over (accounting.ts).
 */
import type { DescMethod } from "@bufbuild/protobuf";
import {
  type CallOptions,
  type ContextValues,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import type { ServiceKey } from "../config.ts";
import type { Code, Reason } from "../errors.ts";
import type { Peer } from "../listener/listener.ts";
import { type Revisions, wantedRevisions } from "../rights/revisions.ts";
import { type CallTrace, traceKey } from "../telemetry/traces.ts";
import type { AccessClaims } from "../token/access-token.ts";
import type { Refusal } from "../token/compact.ts";
import type { AccessRule } from "./access.ts";
import type { Authentication } from "./authenticate.ts";
import type { BodyMemory, Load } from "./overload.ts";

/** Who calls, once that is proven. */
export type Caller =
  | { kind: "anonymous" }
  | { kind: "user"; userId: string; sessionId: string; organizationId?: string }
  | {
      kind: ServiceKey["kind"];
      name: string;
      /** The service that the token was for. */
      callee: string;
    };

export interface Call {
  /** Also answered in the header `x-request-id`. */
  requestId: string;
  /** Monotonic time at which its headers had arrived. */
  startedAt: number;
  peer: Peer;
  /** "POST", or "GET" for Connect's methods without side effects. */
  httpMethod: string;
  /** "/concierge.auth.v1.AuthService/Login", as it was sent, query included. */
  target: string;
  /** Header lines as they were sent, name and value in turn: repeated ones are still apart here. */
  rawHeaders: string[];
  /** Unset while the path is not one of ours. */
  method?: DescMethod;
  caller: Caller;
  trace: CallTrace;
  /** What the access token of a person says: a stream outlives neither the token nor its session. */
  claims?: AccessClaims;
  /** Called once the caller may call, before the body is read, with what has decided it. */
  onAdmitted?: (rule: AccessRule, authentication: Authentication) => void;
  /** A service token's id to spend before a method runs that is not declared idempotent. */
  toSpend?: { tokenId: string; expiresAt: number };
  /** SHA-256 that the message must have, base64url. */
  expectedDigest?: string;
  /** Ends with the deadline, with the client, or with the answer. On the long way only, once the method is known. */
  signal?: AbortSignal;
  protocol?: string;
  /** Where the call has taken a place, to be given back when it is over. */
  load?: Load;
  /** Where its body counts, given back when the call is over. */
  bodyMemory?: BodyMemory;
  /** What counts of it. */
  heldBytes: number;
  /** Its answer is over, or nobody waits for it any more: nothing may begin for it. */
  isOver?: boolean;
  /** How it ended, for the log. */
  outcome: { code?: Code; reason?: Reason; refusal?: Refusal; fault?: unknown };
}

export const callKey = createContextKey<Call | undefined>(undefined, { description: "concierge call" });

export function callOf(values: ContextValues): Call {
  const call = values.get(callKey);
  if (!call) throw new Error("the call was not opened");
  return call;
}

/** The query of a request's target, read as Connect reads it: the message of a GET. */
export function queryOf(target: string): URLSearchParams {
  return new URL(target, "http://host").searchParams;
}

/** What a domain function gets of a call: who asks, from where, how long it may take. */
export interface CallScope {
  caller: Caller;
  origin: Origin;
  trace: CallTrace;
  /** What a decision must know: the header `consistency-token`. INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN. */
  wanted: Revisions;
  signal: AbortSignal;
  /** Milliseconds that are left. */
  timeoutMs(): number | undefined;
}

/** Where a call came from. What the client says of itself proves nothing. */
export interface Origin {
  requestId: string;
  /** IP address; that of the client where a trusted proxy names it. */
  address: string;
  /** At most 200 printable characters; may be empty. */
  userAgent: string;
}

const MAX_USER_AGENT_LENGTH = 200;

export function scopeOf(context: HandlerContext): CallScope {
  const call = callOf(context.values);
  const { caller, trace } = call;
  return {
    caller,
    // Most calls never ask for it.
    get origin() {
      return { requestId: call.requestId, address: call.peer.address, userAgent: userAgentOf(call.rawHeaders) };
    },
    trace,
    get wanted() {
      return wantedRevisions(call.rawHeaders);
    },
    signal: context.signal,
    timeoutMs: context.timeoutMs,
  };
}

function userAgentOf(rawHeaders: string[]): string {
  const index = rawHeaders.findIndex((text, at) => at % 2 === 0 && text.toLowerCase() === "user-agent");
  const sent = index < 0 ? "" : rawHeaders[index + 1]!;
  return sent.replaceAll(/[^\x20-\x7e]/g, "").slice(0, MAX_USER_AGENT_LENGTH);
}

/** What a call of another service gets of this one: the same end, the time that is left now, and its trace. */
export function onward({ signal, timeoutMs, trace }: CallScope): CallOptions & { signal: AbortSignal } {
  return { signal, timeoutMs: timeoutMs(), contextValues: createContextValues().set(traceKey, trace) };
}

/** Somebody with a live session. */
export type Person = Extract<Caller, { kind: "user" }>;
/** Somebody who holds the permission that the method asks for, in this organization. */
export type Member = Person & { organizationId: string };
type KeyHolder = Extract<Caller, { name: string }>;

/** The person who calls. The access rule let only persons in, so anything else is a fault of ours. */
export function userOf(context: HandlerContext): Person {
  const { caller } = callOf(context.values);
  if (caller.kind !== "user") throw new Error("a method for people was reached by somebody else");
  return caller;
}

/** The member who calls. The access rule let only those in who hold a permission. */
export function memberOf(context: HandlerContext): Member {
  const { organizationId, ...person } = userOf(context);
  if (organizationId === undefined) throw new Error("a method for members was reached by somebody else");
  return { ...person, organizationId };
}

/** The service, backend or operator that calls. The access rule let only holders of a service key in. */
export function keyHolderOf({ caller }: CallScope): KeyHolder {
  if (!("name" in caller)) throw new Error("a method for services was reached by somebody else");
  return caller;
}

/** The caller's name for the log. */
export function callerName(caller: Caller): string | undefined {
  switch (caller.kind) {
    case "anonymous":
      return undefined;
    case "user":
      return `user ${caller.userId}`;
    case "service":
    case "backend":
    case "operator":
      return `${caller.kind} ${caller.name}`;
  }
}
