/**
 * What the process measures of itself, as Prometheus reads it. Every label has few values, all of them ours: methods of the
 * contract, four protocols, gRPC's codes, and causes of refusal. Nothing that a caller sends becomes one, so no caller can
 * grow the list, and no name, token or address gets into it.
 */
import { getHeapStatistics } from "node:v8";
import type { DescMethod } from "@bufbuild/protobuf";
import { Counter, Gauge as PrometheusGauge, Registry } from "prom-client";
import type { Code } from "../errors.ts";
import type { Logger } from "../log.ts";
import { CallDurations } from "./durations.ts";
import { type EventLoopWatch, watchEventLoop } from "./event-loop.ts";

/** One number that is read at every scrape. */
export interface Gauge {
  /** "counter": it only grows, from 0 at the start of the process. */
  kind?: "counter";
  /** As Prometheus wants it: "queue_length", "db_pool_connections", with the unit at the end where there is one. */
  name: string;
  help: string;
  /** The same names at each gauge of one name, and few values. Two of one name differ in a value. */
  labels?: Record<string, string>;
  read(): number;
}

/** How a call ended. */
export interface EndedCall {
  /** Not set: the path is none of ours. */
  method: DescMethod | undefined;
  /** "grpc", "grpc-web", "connect" or "rest", once that is known. */
  protocol: string | undefined;
  /** Not set: it went well. */
  code: Code | undefined;
  durationMs: number;
}

export interface Metrics extends Disposable {
  callStarted(): void;
  callEnded(call: EndedCall): void;
  /** A call was turned away: the cause, in words of ours such as "replay" or "rate_limited". */
  refused(cause: string): void;
  /** A call of a person went on although nobody could tell whether the session lives. */
  wentOnStale(): void;
  /** A unary call went the short way. */
  fastPathTaken(): void;
  gauge(gauge: Gauge): void;
  /** The longest that the event loop was held up within the last second or two. */
  loopLagMs(): number;
  /** Everything, in Prometheus's text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

export interface MetricsOptions {
  log: Logger;
  /** Physical memory of the process, where somebody can tell. */
  residentBytes?: (() => number) | undefined;
  /** Log lines that could not be written, where they are counted. */
  droppedLogLines?: (() => number) | undefined;
}

/** Causes are words of our code, so this is never reached; it bounds what a mistake could cost. */
const MAX_CAUSES = 64;

/** Starts measuring; disposing ends the watch over the event loop. */
export function createMetrics({ log, residentBytes, droppedLogLines }: MetricsOptions): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const durations = new CallDurations(registry);
  const refusals = new Counter({
    name: "rpc_server_refused_total",
    help: "Calls turned away before their method ran, by cause",
    labelNames: ["reason"],
    registers,
  });
  const fastPath = new Counter({
    name: "rpc_server_fast_path_total",
    help: "Unary calls that went the short way",
    registers,
  });
  const staleCalls = new Counter({
    name: "rpc_server_stale_sessions_total",
    help: "Calls that went on although nobody could tell whether the session lives",
    registers,
  });
  const causes = new Set<string>();
  const addGauge = gaugesOf(registry);
  const loop = watchEventLoop(log);
  let callsInFlight = 0;
  addGauge({ name: "rpc_server_calls_in_flight", help: "Calls that are being answered", read: () => callsInFlight });
  for (const gauge of processGauges(loop, residentBytes)) addGauge(gauge);
  if (droppedLogLines) {
    const help = "Log lines that could not be written";
    addGauge({ kind: "counter", name: "log_lines_dropped_total", help, read: droppedLogLines });
  }
  return {
    callStarted() {
      callsInFlight++;
    },
    callEnded(call) {
      callsInFlight--;
      durations.observe(call);
    },
    refused(cause) {
      if (causes.size < MAX_CAUSES) causes.add(cause);
      refusals.inc({ reason: causes.has(cause) ? cause : "other" });
    },
    wentOnStale: () => staleCalls.inc(),
    fastPathTaken: () => fastPath.inc(),
    gauge: addGauge,
    loopLagMs: loop.lagMs,
    text: () => registry.metrics(),
    contentType: registry.contentType,
    [Symbol.dispose]: () => loop[Symbol.dispose](),
  };
}

/** Adds gauges that are read at each scrape; several may share a name. */
function gaugesOf(registry: Registry): (gauge: Gauge) => void {
  const byName = new Map<string, Gauge[]>();
  return (gauge) => {
    const known = byName.get(gauge.name);
    if (known) {
      known.push(gauge);
      return;
    }
    const { name, help, labels = {} } = gauge;
    const gauges = [gauge];
    byName.set(name, gauges);
    const shape = { name, help, labelNames: Object.keys(labels), registers: [registry] };
    if (gauge.kind === "counter") {
      new Counter({ ...shape, collect: countAll });
    } else {
      new PrometheusGauge({ ...shape, collect: setAll });
    }
    function countAll(this: Counter) {
      this.reset();
      for (const { labels = {}, read } of gauges) this.inc(labels, read());
    }
    function setAll(this: PrometheusGauge) {
      for (const { labels = {}, read } of gauges) this.set(labels, read());
    }
  };
}

/** Under the names that prom-client made known, which dashboards for Node look for. */
function processGauges(loop: EventLoopWatch, residentBytes: (() => number) | undefined): Gauge[] {
  const startedAtSeconds = performance.timeOrigin / 1000;
  const gauges: [name: string, help: string, read: () => number][] = [
    ["process_start_time_seconds", "When the process started, since 1970", () => startedAtSeconds],
    ["nodejs_heap_size_used_bytes", "JavaScript heap in use", () => getHeapStatistics().used_heap_size],
    ["nodejs_heap_size_total_bytes", "JavaScript heap taken", () => getHeapStatistics().total_heap_size],
    ["nodejs_eventloop_lag_p50_seconds", "Median delay of the event loop", () => loop.lastInterval().p50Ms / 1000],
    ["nodejs_eventloop_lag_p99_seconds", "99th percentile of it", () => loop.lastInterval().p99Ms / 1000],
    ["nodejs_eventloop_lag_max_seconds", "Longest within the last seconds", () => loop.lagMs() / 1000],
  ];
  if (residentBytes) gauges.push(["process_resident_memory_bytes", "Physical memory of the process", residentBytes]);
  return gauges.map(([name, help, read]) => ({ name, help, read }));
}
