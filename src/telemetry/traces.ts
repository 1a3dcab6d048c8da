/**
 * Traces: which call was part of which, across services. Every call continues the trace that its caller names, or begins
 * one, and hands it on; where a collector is configured, the sampled ones are recorded, too. A trace is passed from hand to
 * hand like the caller and the signal, with no ambient context. Without a collector nothing of OpenTelemetry is loaded.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { DescMethod } from "@bufbuild/protobuf";
import { createContextKey } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import type { Code } from "../errors.ts";
import type { SimpleLog } from "../simple-log.ts";
import {
  formatTraceparent,
  isWithinRatio,
  type ParentContext,
  parseTraceparent,
  parseTracestate,
  randomId,
} from "./trace-context.ts";

/** What is known of a call only when it has ended. */
export interface TraceEnd {
  /** "grpc", "grpc-web", "connect" or "rest". */
  protocol?: string;
  /** Kind of caller. Who it is stays out: user ids are personal data, and traces go to another system. */
  caller?: string;
}

/** One call, ours or one that we make, as part of a trace. */
export interface CallTrace {
  readonly traceId: string;
  readonly spanId: string;
  /** The headers to send onward, so that the callee continues this call's trace. */
  readonly traceparent: string;
  readonly tracestate: string | undefined;
  /** The part of the trace that a call of another service is. */
  client(method: DescMethod): CallTrace;
  /** To be called when the answer is over; no code means that it went well. Later calls change nothing. */
  end(code?: Code, details?: TraceEnd): void;
}

/** Disposing delivers what was recorded, within 2 s. */
export interface Tracing extends AsyncDisposable {
  /**
   * Begins a call's part of its trace. A stranger's trace is continued under its id, but whether it is recorded is our
   * decision; where the caller is one of our own services (`isTrusted`), its decision holds.
   */
  begin(method: DescMethod | undefined, headers: IncomingHttpHeaders, options: { isTrusted: boolean }): CallTrace;
  /**
   * Goes on with a trace of ours that was stored with the work it asked for, to call somebody who is no service of ours: `name` says what
   * for. Undefined where `traceparent` names none.
   */
  resume(traceparent: string, name: string): CallTrace | undefined;
}

export interface TracingOptions {
  /** Where an OTLP/HTTP collector takes traces; not set: nothing is recorded. */
  url: string | undefined;
  /** Share of the traces to record for which nobody has decided yet, 0 to 1. */
  ratio: number;
  /** What the collector shows the process as. */
  serviceName: string;
  clock: Clock;
  log: SimpleLog;
}

/** A part of a trace that has ended and is to be recorded. */
export interface EndedSpan extends ParentContext, TraceEnd {
  kind: "server" | "client";
  /** A method of ours, or a name for what no method is; not set: a method that we do not have. */
  operation: DescMethod | string | undefined;
  parentSpanId: string | undefined;
  tracestate: string | undefined;
  /** Milliseconds since 1970, and how long it took. */
  startMs: number;
  durationMs: number;
  code: Code | undefined;
}

/** Takes spans at once, delivers them later, and never fails a call. */
export interface Recorder extends AsyncDisposable {
  record(span: EndedSpan): void;
}

/** Where a call finds the trace that it is made in. */
export const traceKey = createContextKey<CallTrace | undefined>(undefined, { description: "concierge trace" });

export async function createTracing({ url, ratio, serviceName, clock, log }: TracingOptions): Promise<Tracing> {
  const recording = url === undefined ? undefined : await startRecording(url, serviceName, clock, log);
  return {
    begin(method, headers, { isTrusted }) {
      const parent = parseTraceparent(headers);
      const spanId = randomId(8);
      const isSampled = parent && isTrusted ? parent.isSampled : isWithinRatio(spanId, ratio);
      const own = { traceId: parent?.traceId ?? randomId(16), spanId, isSampled };
      const tracestate = parent && isTrusted ? parseTracestate(headers) : undefined;
      return new Span("server", method, own, parent?.spanId, tracestate, recording);
    },
    resume(traceparent, name) {
      const parent = parseTraceparent({ traceparent });
      if (!parent) return undefined;
      return new Span("client", name, { ...parent, spanId: randomId(8) }, parent.spanId, undefined, recording);
    },
    async [Symbol.asyncDispose]() {
      await recording?.recorder[Symbol.asyncDispose]();
    },
  };
}

interface Recording {
  recorder: Recorder;
  clock: Clock;
}

async function startRecording(url: string, serviceName: string, clock: Clock, log: SimpleLog): Promise<Recording> {
  const { createRecorder } = await import("./trace-export.ts");
  return { recorder: createRecorder(url, serviceName, log), clock };
}

class Span implements CallTrace {
  readonly traceId: string;
  readonly spanId: string;
  readonly tracestate: string | undefined;
  readonly #kind: EndedSpan["kind"];
  readonly #operation: EndedSpan["operation"];
  readonly #isSampled: boolean;
  readonly #parentSpanId: string | undefined;
  readonly #recording: Recording | undefined;
  readonly #startMs: number;
  readonly #startedAt: number;
  #isEnded = false;

  constructor(
    kind: EndedSpan["kind"],
    operation: EndedSpan["operation"],
    { traceId, spanId, isSampled }: ParentContext,
    parentSpanId: string | undefined,
    tracestate: string | undefined,
    recording: Recording | undefined,
  ) {
    this.traceId = traceId;
    this.spanId = spanId;
    this.tracestate = tracestate;
    this.#kind = kind;
    this.#operation = operation;
    this.#isSampled = isSampled;
    this.#parentSpanId = parentSpanId;
    this.#recording = isSampled ? recording : undefined;
    this.#startMs = this.#recording?.clock.now() ?? 0;
    this.#startedAt = this.#recording?.clock.monotonic() ?? 0;
  }

  get traceparent(): string {
    return formatTraceparent({ traceId: this.traceId, spanId: this.spanId, isSampled: this.#isSampled });
  }

  client(method: DescMethod): CallTrace {
    const own = { traceId: this.traceId, spanId: randomId(8), isSampled: this.#isSampled };
    return new Span("client", method, own, this.spanId, this.tracestate, this.#recording);
  }

  end(code?: Code, details: TraceEnd = {}): void {
    if (!this.#recording || this.#isEnded) return;
    this.#isEnded = true;
    const { recorder, clock } = this.#recording;
    recorder.record({
      ...details,
      kind: this.#kind,
      operation: this.#operation,
      traceId: this.traceId,
      spanId: this.spanId,
      isSampled: this.#isSampled,
      parentSpanId: this.#parentSpanId,
      tracestate: this.tracestate,
      startMs: this.#startMs,
      durationMs: clock.monotonic() - this.#startedAt,
      code,
    });
  }
}
