import assert from "node:assert/strict";
import test from "node:test";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { Code } from "../errors.ts";
import { listen, type RequestHandler } from "../listener/listener.ts";
import { createLogger } from "../log.ts";
import { probePaths } from "../rpc/probes.ts";
import { until } from "../testing/until.ts";
import { createMetrics, type Metrics } from "./metrics.ts";

const { login } = AuthService.method;
const LOGIN = "/concierge.auth.v1.AuthService/Login";

function start(residentBytes?: () => number) {
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const log = createLogger({ level: "info", mode: "development", destination });
  return { metrics: createMetrics({ log, residentBytes }), lines };
}

/** The samples of a scrape, by name and labels as they are written. */
async function samplesOf(metrics: Metrics): Promise<Map<string, number>> {
  const lines = (await metrics.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const [, series, value] = /^([a-z0-9_]+(?:\{(?:[a-z_]+="[^"\\\n]*",?)+\})?) (\S+)$/.exec(line) ?? [];
      assert.ok(series !== undefined, `no sample: ${line}`);
      return [series, Number(value)];
    }),
  );
}

test("calls are counted by method, protocol and code, in buckets that include the smaller ones", async () => {
  const { metrics } = start();
  using _metrics = metrics;
  const ended = { method: login, protocol: "grpc", code: undefined };
  for (const durationMs of [0.2, 1, 30, 20_000]) metrics.callEnded({ ...ended, durationMs });
  metrics.callEnded({ ...ended, protocol: "connect", code: Code.Canceled, durationMs: 5 });
  const samples = await samplesOf(metrics);
  const name = "rpc_server_call_duration_seconds";
  const labels = `method="${LOGIN}",protocol="grpc",code="OK"`;
  const bucket = (le: string) => samples.get(`${name}_bucket{${labels},le="${le}"}`);
  assert.deepEqual(["0.001", "0.0025", "0.025", "0.05", "10", "+Inf"].map(bucket), [2, 2, 2, 3, 3, 4]);
  assert.equal(samples.get(`${name}_count{${labels}}`), 4);
  assert.ok(Math.abs(samples.get(`${name}_sum{${labels}}`)! - 20.0312) < 1e-9);
  assert.equal(samples.get(`${name}_count{method="${LOGIN}",protocol="connect",code="CANCELLED"}`), 1);
  const text = await metrics.text();
  assert.match(text, /^# TYPE rpc_server_call_duration_seconds histogram$/m);
  assert.match(metrics.contentType, /^text\/plain; version=0\.0\.4/);
});

test("calls in flight, refusals and short ways are counted", async () => {
  const { metrics } = start();
  using _metrics = metrics;
  const of = async (series: string) => (await samplesOf(metrics)).get(series);
  assert.equal(await of("rpc_server_calls_in_flight"), 0);
  metrics.callStarted();
  metrics.callStarted();
  metrics.fastPathTaken();
  metrics.refused("replay");
  metrics.refused("replay");
  metrics.refused("rate_limited");
  metrics.callEnded({ method: login, protocol: "grpc", code: undefined, durationMs: 1 });
  assert.equal(await of("rpc_server_calls_in_flight"), 1);
  assert.equal(await of("rpc_server_fast_path_total"), 1);
  assert.equal(await of('rpc_server_refused_total{reason="replay"}'), 2);
  assert.equal(await of('rpc_server_refused_total{reason="rate_limited"}'), 1);
});

test("gauges of one name are read at each scrape", async () => {
  const { metrics } = start(() => 4711);
  using _metrics = metrics;
  const waiting: Record<string, number> = { auth: 0, user: 3 };
  for (const service of Object.keys(waiting)) {
    metrics.gauge({ name: "db_pool_waiting", help: "Waits", labels: { service }, read: () => waiting[service]! });
  }
  const first = await samplesOf(metrics);
  assert.equal(first.get('db_pool_waiting{service="auth"}'), 0);
  assert.equal(first.get('db_pool_waiting{service="user"}'), 3);
  waiting.auth = 5;
  assert.equal((await samplesOf(metrics)).get('db_pool_waiting{service="auth"}'), 5);
  assert.equal(first.get("process_resident_memory_bytes"), 4711);
  assert.ok(first.get("nodejs_heap_size_used_bytes")! > 1e6);
  const startedAt = first.get("process_start_time_seconds")!;
  assert.ok(Math.abs(startedAt - Date.now() / 1000) < 3600);
  for (const part of ["p50", "p99", "max"]) assert.ok(first.has(`nodejs_eventloop_lag_${part}_seconds`));
});

test("a gauge that only grows is shown as a counter, with its own total at each scrape", async () => {
  const { metrics } = start();
  using _metrics = metrics;
  const totals: Record<string, number> = { sent: 0, rejected: 2 };
  for (const result of Object.keys(totals)) {
    const read = () => totals[result]!;
    metrics.gauge({ kind: "counter", name: "pushes_total", help: "Pushes", labels: { result }, read });
  }
  assert.equal((await samplesOf(metrics)).get('pushes_total{result="sent"}'), 0);
  totals.sent = 5;
  const second = await samplesOf(metrics);
  assert.deepEqual(
    ["sent", "rejected"].map((result) => second.get(`pushes_total{result="${result}"}`)),
    [5, 2],
  );
  assert.match(await metrics.text(), /^# TYPE pushes_total counter$/m);
});

test("S-LOG-01 nothing that a caller chooses becomes a label, and no flood of values makes the list longer", async () => {
  const { metrics } = start();
  using _metrics = metrics;
  const canary = "canary-5f0c";
  const call = { method: login, protocol: "grpc", code: undefined, durationMs: 1 };
  metrics.callEnded({ ...call, method: undefined, protocol: undefined });
  metrics.callEnded({ ...call, protocol: undefined });
  metrics.callEnded({ ...call, code: Code.Unknown });
  const before = await samplesOf(metrics);
  for (let round = 0; round < 10_000; round++) {
    metrics.callEnded({ ...call, method: undefined, protocol: `${canary}${round}` });
    metrics.callEnded({ ...call, protocol: `__proto__${round}` });
    metrics.callEnded({ ...call, code: (100 + round) as Code });
  }
  const after = await samplesOf(metrics);
  assert.deepEqual([...after.keys()], [...before.keys()]);
  const labels = 'method="unknown",protocol="unknown",code="OK"';
  assert.equal(after.get(`rpc_server_call_duration_seconds_count{${labels}}`), 10_001);
  for (let round = 0; round < 1_000; round++) metrics.refused(`cause ${round}`);
  const refusals = [...(await samplesOf(metrics)).keys()].filter((series) => series.startsWith("rpc_server_refused"));
  assert.equal(refusals.length, 65);
  assert.ok(refusals.includes('rpc_server_refused_total{reason="other"}'));
  assert.ok(!(await metrics.text()).includes(canary));
});

test("every method with every protocol and code is a list that Prometheus can take", async () => {
  const { metrics } = start();
  using _metrics = metrics;
  const methods = [...AuthService.methods, ...AuthInternalService.methods];
  for (const method of methods) {
    for (const protocol of ["grpc", "grpc-web", "connect"]) {
      for (let code = 0; code <= 16; code++) {
        metrics.callEnded({ method, protocol, code: code === 0 ? undefined : code, durationMs: 1 });
      }
    }
  }
  const counts = [...(await samplesOf(metrics)).keys()].filter((series) => series.includes("_seconds_count{"));
  assert.equal(counts.length, methods.length * 3 * 17);
});

/** The probes of both listeners, each on a port of its own. */
async function startProbes(metrics: Metrics) {
  const opened = new AsyncDisposableStack();
  const open = async (showReasons: boolean) => {
    const paths = probePaths(async () => [], { showReasons, degraded: () => [], metrics });
    const handler: RequestHandler = (request, response, peer) => {
      const answer = paths[request.url!];
      if (answer) return answer(request, response, peer);
      response.statusCode = 404;
      response.end();
    };
    const { url } = opened.use(await listen({ host: "127.0.0.1", port: 0, clock: systemClock, handler }));
    return async (path: string) => {
      const response = await fetch(`${url}${path}`, { headers: { connection: "close" } });
      return { status: response.status, type: response.headers.get("content-type"), body: await response.text() };
    };
  };
  return { public: await open(false), internal: await open(true), [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

test("the internal listener shows the metrics to whoever can reach it, the public one to nobody", async () => {
  const { metrics } = start();
  using _metrics = metrics;
  await using probes = await startProbes(metrics);
  const shown = await probes.internal("/metrics");
  assert.deepEqual([shown.status, shown.type], [200, metrics.contentType]);
  assert.match(shown.body, /^rpc_server_calls_in_flight 0$/m);
  assert.equal((await probes.public("/metrics")).status, 404);
});

test("R-NET-09 an event loop that is held up makes the process not ready, says so once, and is forgiven", async () => {
  const { metrics, lines } = start();
  using _metrics = metrics;
  await using probes = await startProbes(metrics);
  const isReady = async () => (await probes.internal("/readyz")).status === 200;
  await until("it is ready", isReady);
  // The watch has seen the loop turn, so that what comes now is a delay.
  await until("the loop was watched", () => metrics.loopLagMs() > 0);
  holdUp(1_300);
  // All that says so within the second for which it is said, once the loop has turned.
  const outside = probes.public("/readyz");
  const inside = await probes.internal("/readyz");
  const samples = await samplesOf(metrics);
  assert.equal(inside.status, 503);
  assert.match(inside.body, /"missing":\["the event loop was held up for \d{4,} ms"\]/);
  assert.deepEqual([(await outside).status, (await outside).body], [503, '{"status":"not ready"}']);
  assert.equal((await probes.internal("/healthz")).status, 200);
  assert.ok(samples.get("nodejs_eventloop_lag_max_seconds")! > 1.2);
  await until("it is ready again", isReady);
  const warnings = lines.filter(({ msg }) => msg === "the event loop was held up");
  assert.equal(warnings.length, 1);
  assert.ok((warnings[0]!.lagMs as number) > 1_200);
});

/** What a slow regular expression or a huge JSON text would do. */
function holdUp(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test("measuring can be stopped, and stopped again", async () => {
  const { metrics } = start();
  metrics[Symbol.dispose]();
  metrics[Symbol.dispose]();
  assert.match(await metrics.text(), /rpc_server_calls_in_flight/);
});
