/**
 * The part of tracing that needs OpenTelemetry: spans wait in a bounded queue and are sent to a collector in batches. A
 * collector that is slow or away costs spans, never a call, and is reported once until it is back. Loaded only where a
 * collector is configured: it takes 5 MB and 0.2 s.
 */
import { setTimeout as delay } from "node:timers/promises";
import {
  type Attributes,
  createTraceState,
  type HrTime,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, type ReadableSpan, type SpanExporter } from "@opentelemetry/sdk-trace";
import { Code } from "../errors.ts";
import type { SimpleLog } from "../simple-log.ts";
import { statusName } from "./status-name.ts";
import type { EndedSpan, Recorder } from "./traces.ts";

/** More than this that waits is dropped. */
const MAX_WAITING_SPANS = 4_096;
const BATCH_SPANS = 512;
const BATCH_DELAY_MS = 2_000;
/** For one batch with its repetitions. It also bounds what is left running after the process was told to stop. */
const EXPORT_TIMEOUT_MS = 2_000;
const FLUSH_TIMEOUT_MS = 2_000;

const SCOPE = { name: "concierge" };
/** What OpenTelemetry counts as the server's failure; the rest may be what the client deserves. */
const SERVER_FAILURES = new Set<Code>([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

/** Starts nothing yet: the first span does. Disposing delivers what waits, within 2 s. */
export function createRecorder(url: string, serviceName: string, log: SimpleLog): Recorder {
  const processor = new BatchSpanProcessor({
    exporter: reportingExporter(new OTLPTraceExporter({ url, timeoutMillis: EXPORT_TIMEOUT_MS }), log),
    maxQueueSize: MAX_WAITING_SPANS,
    maxExportBatchSize: BATCH_SPANS,
    scheduledDelayMillis: BATCH_DELAY_MS,
  });
  const resource = resourceFromAttributes({ "service.name": serviceName });
  return {
    // Made when the call has ended, and not by the SDK's tracer: that reads clocks of its own and an ambient context.
    record: (span) => processor.onEnd({ ...readable(span), resource }),
    async [Symbol.asyncDispose]() {
      const limit = new AbortController();
      const isLate = delay(FLUSH_TIMEOUT_MS, undefined, { signal: limit.signal }).catch(() => {});
      await Promise.race([processor.shutdown().catch(() => {}), isLate]);
      limit.abort();
    },
  };
}

/** Says once that nothing gets through, and once that it does again. */
function reportingExporter(exporter: SpanExporter, log: SimpleLog): SpanExporter {
  let isFailing = false;
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        const { error } = result;
        if (error && !isFailing) log.warn({ error }, "traces are not delivered");
        if (!error && isFailing) log.info("traces are delivered again");
        isFailing = error !== undefined;
        done(result);
      });
    },
    forceFlush: async () => exporter.forceFlush?.(),
    shutdown: () => exporter.shutdown(),
  };
}

function readable(span: EndedSpan): Omit<ReadableSpan, "resource"> {
  const { traceId, spanId, parentSpanId, tracestate } = span;
  const traceFlags = TraceFlags.SAMPLED;
  const traceState = tracestate === undefined ? undefined : createTraceState(tracestate);
  return {
    name: operationName(span),
    kind: span.kind === "server" ? SpanKind.SERVER : SpanKind.CLIENT,
    spanContext: () => ({ traceId, spanId, traceFlags, traceState }),
    parentSpanContext: parentSpanId === undefined ? undefined : { traceId, spanId: parentSpanId, traceFlags },
    startTime: timeOf(span.startMs),
    endTime: timeOf(span.startMs + span.durationMs),
    duration: timeOf(span.durationMs),
    status: { code: isFailure(span) ? SpanStatusCode.ERROR : SpanStatusCode.UNSET },
    attributes: attributesOf(span),
    links: [],
    events: [],
    ended: true,
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

/** Named as OpenTelemetry's conventions for RPC do. */
function attributesOf(span: EndedSpan): Attributes {
  const status = statusName(span.code);
  const failure = isFailure(span) ? { "error.type": status } : {};
  if (typeof span.operation === "string") return failure;
  return {
    "rpc.system.name": span.protocol === "connect" ? "connectrpc" : "grpc",
    "rpc.method": operationName(span),
    "rpc.status_code": status,
    ...failure,
    ...(span.caller === undefined ? {} : { "concierge.caller.kind": span.caller }),
  };
}

/** What a stranger asked for and we do not have stays out. */
function operationName({ operation = "_OTHER" }: EndedSpan): string {
  return typeof operation === "string" ? operation : `${operation.parent.typeName}/${operation.name}`;
}

function isFailure({ kind, code }: EndedSpan): boolean {
  if (code === undefined) return false;
  return kind === "client" || SERVER_FAILURES.has(code);
}

function timeOf(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
