/**
 * The outermost steps of a call: it gets an id and its part in a trace when its headers arrive, and when its answer is over,
 * one line in the log and its place in the metrics, however it ended.
 */
import type { IncomingHttpHeaders } from "node:http";
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { v7 as uuidv7 } from "uuid";
import { mostly_waits } from "../../gen/concierge/options/v1/limits_pb.ts";
import type { Clock } from "../clock.ts";
import { Code, type Reason, reasonOf } from "../errors.ts";
import type { Peer } from "../listener/listener.ts";
import type { Logger } from "../log.ts";
import { randomBytes } from "../random.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Tracing } from "../telemetry/traces.ts";
import { type Call, callerName } from "./call.ts";
import { isFault } from "./errors.ts";

export interface Accounting {
  log: Logger;
  clock: Clock;
  metrics: Metrics;
  tracing: Tracing;
  /** Whether callers decide which traces are recorded: our own services on the internal listener, not the public. */
  trustsTraces: boolean;
}

/** Reasons for which a call was turned away before its method ran, beside those of authentication. */
const REFUSALS = new Set<Reason>(["RATE_LIMITED", "OVERLOADED", "CALLER_NOT_ALLOWED", "AUTH_STALE"]);

/** What a call begins with, of whichever kind of request. */
export interface Arrival {
  httpMethod: string;
  target: string;
  headers: IncomingHttpHeaders;
  rawHeaders: string[];
  peer: Peer;
  method: DescMethod | undefined;
}

export function openCall(arrival: Arrival, { clock, metrics, tracing, trustsTraces }: Accounting): Call {
  const { httpMethod, target, headers, rawHeaders, peer, method } = arrival;
  metrics.callStarted();
  return {
    requestId: newRequestId(),
    startedAt: clock.monotonic(),
    peer,
    httpMethod,
    target,
    rawHeaders,
    method,
    caller: { kind: "anonymous" },
    trace: tracing.begin(method, headers, { isTrusted: trustsTraces }),
    heldBytes: 0,
    outcome: {},
  };
}

/** A UUID of version 7, so that ids sort by time. */
export function newRequestId(): string {
  return uuidv7({ rng: () => randomBytes(16) });
}

/** Notes how a call failed, for the log. */
export function noteFailure(call: Call, error: Error & { code: Code; cause?: unknown }): void {
  call.outcome.code = error.code;
  call.outcome.reason = reasonOf(error);
  const isClients = call.outcome.reason === "MALFORMED_MESSAGE";
  if (isFault(error.code) && !isClients) call.outcome.fault = error.cause ?? error;
}

/** To be called once, when the answer is over: delivered to its end (`isDelivered`) or broken off. */
export function closeCall(call: Call, isDelivered: boolean, { log, clock, metrics }: Accounting): void {
  call.isOver = true;
  call.load?.leave(call.peer.address);
  call.bodyMemory?.giveBack(call);
  if (!isDelivered) call.outcome = { code: Code.Canceled, reason: "CANCELED", ...call.outcome };
  const { method, protocol, caller, trace, outcome } = call;
  const { code, reason, refusal, fault } = outcome;
  const durationMs = clock.monotonic() - call.startedAt;
  metrics.callEnded({ method, protocol, code, durationMs });
  const cause = refusal ?? (reason && REFUSALS.has(reason) ? reason.toLowerCase() : undefined);
  if (cause) metrics.refused(cause);
  trace.end(code, { protocol, caller: caller.kind });
  const line = {
    requestId: call.requestId,
    traceId: trace.traceId,
    // What strangers send as a path has no business in the log: it may be anything, a secret too.
    procedure: method && `/${method.parent.typeName}/${method.name}`,
    protocol,
    caller: callerName(caller),
    code: code === undefined ? "ok" : Code[code],
    reason,
    refusal,
    durationMs: Math.round(durationMs * 1000) / 1000,
  };
  if (fault !== undefined) log.error({ ...line, error: fault }, "call failed");
  else if (code === undefined && isRoutine(method)) log.debug(line, "call");
  else log.info(line, "call");
}

const routines = new WeakMap<DescMethod, boolean>();

/** Whether a method is called again and again to wait for something: a line for each would bury the log. */
function isRoutine(method: DescMethod | undefined): boolean {
  if (!method) return false;
  let is = routines.get(method);
  if (is === undefined) {
    is = getOption(method, mostly_waits);
    routines.set(method, is);
  }
  return is;
}
