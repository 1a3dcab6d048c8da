/**
 * Runs services: one or all of them in a process, on one public and one internal listener. Ports open once the
 * configuration is sound; each service answers when it is ready (mounted-service.ts). Stopping drains: the public listener, then
 * jobs, then the internal listener that both may still need, then connections and pools.
 */

import { setTimeout as delay, setImmediate } from "node:timers/promises";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { readAuthorities } from "./authorities.ts";
import type { Clock } from "./clock.ts";
import type { PlatformConfig } from "./config.ts";
import { Code, ExitCode, fail, StartupError } from "./errors.ts";
import { feedHandlers } from "./feed/handlers.ts";
import type { Listener, NodeRequest } from "./listener/listener.ts";
import { openListeners, openRestListener } from "./listeners.ts";
import type { Logger } from "./log.ts";
import { mountService } from "./mount.ts";
import type { MountedService } from "./mounted-service.ts";
import { missingKeys } from "./peers.ts";
import { openPlatformRedis } from "./platform-redis.ts";
import { openRateLimit } from "./rate-limits.ts";
import { type Side, sideOf } from "./rpc/access.ts";
import { createRequestHandlers, type RequestHandlers } from "./rpc/handler.ts";
import { createHealth, type HealthStatus } from "./rpc/health.ts";
import type { RateLimit } from "./rpc/overload.ts";
import { probePaths } from "./rpc/probes.ts";
import { reflectionOf } from "./rpc/reflection.ts";
import { createRestHandler } from "./rpc/rest.ts";
import { createRoutes, limitsOf, type Routes, type Served } from "./rpc/routes.ts";
import { implement, type ServiceDefinition, type ServiceValues } from "./service.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";
import { createTracing, type Tracing } from "./telemetry/traces.ts";
import { SERVICE_TOKEN_HEADER, type ServiceTokenVerifier } from "./token/service-token.ts";

export interface ServerOptions {
  definitions: ServiceDefinition[];
  platform: PlatformConfig;
  /** Values of each service's variables, by service name. */
  services: Record<string, ServiceValues>;
  /** The folder with one folder of migrations for each service. */
  migrationsFolder: string;
  clock: Clock;
  log: Logger;
  /** Physical memory of the process, where somebody can tell. */
  residentBytes?: () => number;
  /** Log lines that could not be written, where they are counted. */
  droppedLogLines?: () => number;
}

export interface RunningServer extends AsyncDisposable {
  publicUrl: string;
  internalUrl: string;
  /** Of the plain HTTP that a service has beside its RPCs. */
  restUrl: string | undefined;
  /** Resolves when every service answers; rejects with a StartupError when one never will. */
  ready: Promise<void>;
}

const SIDES: readonly Side[] = ["public", "internal"];

/** Opens the listeners and starts the services. Throws a StartupError, with nothing left open, when that cannot work. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const missing = options.definitions.flatMap((definition) => missingKeys(definition, valuesOf(definition, options)));
  if (missing.length > 0) throw new StartupError(missing.join("\n"), ExitCode.config);
  await using opened = new AsyncDisposableStack();
  const handlers: Record<Side, RequestHandlers> = { public: notYet, internal: notYet };
  const telemetry = await openTelemetry(options, opened);
  const listeners = await openListeners(options, handlers, opened);
  const mounts = await mountAll(options, telemetry, listeners.internal.url, opened);
  const health = createHealth(mounts.flatMap(({ definition }) => definition.services.map((desc) => desc.typeName)));
  const stopping = new AbortController();
  const { platform } = options;
  const routes = {
    public: routesOf("public", { mounts, health, platform }),
    internal: routesOf("internal", { mounts, health, platform }),
  };
  const rateLimit = await openRateLimit(options, telemetry.metrics, opened);
  const parts = { mounts, health, listeners, routes, rateLimit, isLeaving: false, stopping: stopping.signal };
  const running: Running = { ...options, ...telemetry, ...parts };
  for (const side of SIDES) handlers[side] = createHandlers(side, running);
  running.rest = await openRest(running, opened);
  showGauges(running);
  const ready = begin(running);
  // Whoever waits for it sees the failure; nobody has to.
  ready.catch(() => {});
  const resources = opened.move();
  let stopped: Promise<void> | undefined;
  return {
    publicUrl: listeners.public.url,
    internalUrl: listeners.internal.url,
    restUrl: running.rest?.url,
    ready,
    [Symbol.asyncDispose]() {
      stopped ??= stop(running, resources, stopping);
      return stopped;
    },
  };
}

/** What runs in this process. */
interface Running extends ServerOptions, Telemetry {
  mounts: MountedService[];
  health: HealthStatus;
  listeners: Record<Side, Listener>;
  routes: Record<Side, Routes>;
  rest?: Listener;
  /** Of the public listener. */
  rateLimit: RateLimit;
  /** The process is told to stop, and says that it is not ready. */
  isLeaving: boolean;
  /** Aborts when it begins to end what it does. */
  stopping: AbortSignal;
}

interface Telemetry {
  metrics: Metrics;
  tracing: Tracing;
}

async function openTelemetry(
  { definitions, platform, clock, log, residentBytes, droppedLogLines }: ServerOptions,
  opened: AsyncDisposableStack,
): Promise<Telemetry> {
  const metrics = opened.use(createMetrics({ log, residentBytes, droppedLogLines }));
  const serviceName = definitions.length === 1 ? `concierge-${definitions[0]!.name}` : "concierge";
  const { tracesUrl: url, tracesRatio: ratio } = platform;
  return { metrics, tracing: opened.use(await createTracing({ url, ratio, serviceName, clock, log })) };
}

async function mountAll(
  options: ServerOptions,
  { metrics, tracing }: Telemetry,
  internalUrl: string,
  opened: AsyncDisposableStack,
): Promise<MountedService[]> {
  const names = options.definitions.map(({ name }) => name);
  const localUrl = (peer: string) => (names.includes(peer) ? internalUrl : undefined);
  const peerCa = await readAuthorities("peers", options.platform.peerCaPath);
  const asksRights = options.definitions.some(({ peers }) => "access" in peers);
  const redis = asksRights ? await openPlatformRedis("rights", options, metrics, opened) : undefined;
  const mounts: MountedService[] = [];
  for (const definition of options.definitions) {
    const config = valuesOf(definition, options);
    const own = { config, localUrl, peerCa, redis, tracing, onStale: metrics.wentOnStale };
    mounts.push(opened.use(await mountService(definition, { ...options, ...own })));
  }
  return mounts;
}

function valuesOf({ name }: ServiceDefinition, { services }: ServerOptions): ServiceValues {
  return services[name] ?? {};
}

function createHandlers(side: Side, running: Running): RequestHandlers {
  const { mounts, platform, log, clock, metrics, tracing, rateLimit, stopping } = running;
  const readiness = async () => {
    if (running.isLeaving) return ["the process is stopping"];
    const reasons = await Promise.all(mounts.map((mount) => mount.notReady()));
    return reasons.filter((reason) => reason !== undefined);
  };
  const degraded = () => mounts.map((mount) => mount.degraded()).filter((reason) => reason !== undefined);
  return createRequestHandlers({
    routes: running.routes[side],
    plain: new Map([
      ...mounts.flatMap(({ parts }) => Object.entries(parts.plain ?? {})),
      ...(side === "internal" ? mounts.flatMap(({ parts }) => Object.entries(parts.internalPlain ?? {})) : []),
      ...Object.entries(probePaths(readiness, { showReasons: side === "internal", degraded, metrics })),
    ]),
    mayLearnPaths: side === "public" ? () => true : (request) => isKnownCaller(request, mounts),
    refusesAtOnce: side === "public",
    rateLimit: side === "public" ? rateLimit : () => undefined,
    stopping,
    fastPath: platform.rpcFastPath,
    log,
    clock,
    metrics,
    tracing,
    trustsTraces: side === "internal",
  });
}

async function openRest(running: Running, opened: AsyncDisposableStack): Promise<Listener | undefined> {
  const rest = running.mounts.find(({ parts }) => parts.rest)?.parts.rest;
  if (!rest) return undefined;
  const handler = createRestHandler({
    ...running,
    routes: running.routes.internal,
    rest: rest.routes,
    trustsTraces: true,
  });
  return opened.use(await openRestListener(running, rest.port, handler));
}

/** What /metrics shows of the process's parts. */
function showGauges({ metrics, listeners, rest, mounts }: Running): void {
  for (const [name, listener] of Object.entries({ ...listeners, ...(rest && { rest }) })) {
    const read = () => listener.connectionCount();
    metrics.gauge({ name: "listener_connections", help: "Open connections", labels: { listener: name }, read });
  }
  for (const gauge of mounts.flatMap((mount) => mount.gauges())) metrics.gauge(gauge);
}

async function begin({ mounts, health, stopping }: Running): Promise<void> {
  await Promise.all(mounts.map((mount) => mount.begin(stopping)));
  if (stopping.aborted) return;
  health.setAll(true);
  // Only now, so that no job finds a service of its own process still starting.
  for (const mount of mounts) mount.startJobs();
}

async function stop(running: Running, resources: AsyncDisposable, stopping: AbortController): Promise<void> {
  const { mounts, health, listeners, rest, platform, clock, log } = running;
  health.setAll(false);
  running.isLeaving = true;
  // Balancers look at the health now and then, and send calls until they have. At least one turn, so that whoever watches the
  // health hears of it before the watch ends, too.
  if (platform.drainDelaySeconds > 0) await delay(platform.drainDelaySeconds * 1000);
  else await setImmediate();
  stopping.abort(fail(Code.Unavailable, "DRAINING", "the server is stopping", { retryAfterMs: 1_000 }));
  const startMs = clock.monotonic();
  const drainMs = platform.drainSeconds * 1000;
  const leftOf = (budgetMs: number) => Math.max(0, startMs + budgetMs - clock.monotonic());
  // Half of the time for calls that are running, the other half for what jobs have begun and for pools.
  await listeners.public.drain(leftOf(drainMs / 2));
  // Before the internal listener: a job may have to tell a service of this very process what it has done.
  await settledWithin(leftOf(drainMs), Promise.all(mounts.map((mount) => mount.stopJobs())));
  await Promise.all([listeners.internal, rest].map((listener) => listener?.drain(leftOf(drainMs / 2))));
  const isClosed = await settledWithin(leftOf(drainMs), resources[Symbol.asyncDispose]());
  if (isClosed) log.info("stopped");
  else log.warn("stopped before everything had ended");
}

/** Waits for work, but no longer than this; false when it goes on. */
async function settledWithin(limitMs: number, work: PromiseLike<unknown>): Promise<boolean> {
  const timer = new AbortController();
  const isLate = delay(limitMs, false, { signal: timer.signal }).catch(() => false);
  return Promise.race([Promise.resolve(work).then(() => true), isLate]).finally(() => timer.abort());
}

function routesOf(side: Side, { mounts, health, platform }: Pick<Running, "mounts" | "health" | "platform">): Routes {
  const visible = mounts.flatMap(({ definition }) => definition.services.filter((desc) => sideOf(desc) === side));
  const feeds = side === "internal" ? feedsOf(mounts) : [];
  const described = [...visible, ...feeds.flatMap(({ implementations }) => implementations.map(({ desc }) => desc))];
  const implementations = [
    implement(Health, side === "public" ? health.overallOnly : health.implementation),
    ...(platform.reflection ? reflectionOf([...described, Health]) : []),
  ];
  const served = [{ implementations }, ...feeds, ...mounts.map((mount) => mount.served(side))];
  return createRoutes(limitsOf(side, platform), served);
}

/** The feeds of all services, which have one path: a caller is known if it is known to any of them. */
function feedsOf(mounts: MountedService[]): Served[] {
  const feeds = new Map(mounts.flatMap(({ definition, feed }) => (feed ? [[definition.name, feed] as const] : [])));
  const [first] = mounts.filter(({ feed }) => feed).map(({ steps }) => steps);
  if (!first) return [];
  const verifyServiceToken: ServiceTokenVerifier = (token, procedure) => {
    const verified = mounts.map(({ steps }) => steps.authentication.verifyServiceToken(token, procedure));
    // A key belongs to one callee: to all others it is unknown.
    return verified.find((each) => each.ok || each.why !== "unknown_kid") ?? verified[0]!;
  };
  const authentication = { ...first.authentication, verifyServiceToken };
  return [{ service: { ...first, authentication, isStarted: () => true }, implementations: [feedHandlers(feeds)] }];
}

/** On the internal listener only a holder of a key learns which paths there are. */
function isKnownCaller(request: NodeRequest, mounts: MountedService[]): boolean {
  const token = request.headers[SERVICE_TOKEN_HEADER];
  const target = request.url ?? "";
  return mounts.some(({ steps }) => steps.authentication.verifyServiceToken(String(token), target).ok);
}

/** For the moment between opening the port and having something to answer with. */
const notYet: RequestHandlers = {
  answer(_, response) {
    response.statusCode = 503;
    response.end();
  },
  takeStream: undefined,
};
