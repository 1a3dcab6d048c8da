/**
 * Runs services: one or all of them in a process, on one public and one internal listener. Ports open once the
 * configuration is sound; each service answers when it is ready (mount.ts). Stopping drains: the public listener, then
 * jobs, then the internal listener that both may still need, then connections and pools.
 */

import { setTimeout as delay } from "node:timers/promises";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import type { Clock } from "./clock.ts";
import type { PlatformConfig } from "./config.ts";
import { Code, ExitCode, fail, StartupError } from "./errors.ts";
import type { Logger } from "./log.ts";
import { type MountedService, missingKeys, mountService } from "./mount.ts";
import { type Side, sideOf } from "./rpc/access.ts";
import {
  createRequestHandler,
  INTERNAL_LIMITS,
  openRoutes,
  PUBLIC_LIMITS,
  type Routes,
  serviceRoutes,
} from "./rpc/handler.ts";
import { createHealth, type HealthStatus } from "./rpc/health.ts";
import { type Listener, listen, type NodeRequest, type RequestHandler } from "./rpc/listener.ts";
import { probePaths } from "./rpc/probes.ts";
import { registerReflection } from "./rpc/reflection.ts";
import type { ServiceDefinition, ServiceValues } from "./service.ts";
import { SERVICE_TOKEN_HEADER } from "./token/service-token.ts";

export interface ServerOptions {
  definitions: ServiceDefinition[];
  platform: PlatformConfig;
  /** Values of each service's variables, by service name. */
  services: Record<string, ServiceValues>;
  /** The folder with one folder of migrations for each service. */
  migrationsFolder: string;
  clock: Clock;
  log: Logger;
}

export interface RunningServer extends AsyncDisposable {
  publicUrl: string;
  internalUrl: string;
  /** Resolves when every service answers; rejects with a StartupError when one never will. */
  ready: Promise<void>;
}

const SIDES: readonly Side[] = ["public", "internal"];

/** Opens the listeners and starts the services. Throws a StartupError, with nothing left open, when that cannot work. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const missing = options.definitions.flatMap((definition) => missingKeys(definition, valuesOf(definition, options)));
  if (missing.length > 0) throw new StartupError(missing.join("\n"), ExitCode.config);
  await using opened = new AsyncDisposableStack();
  const handlers: Record<Side, RequestHandler> = { public: notYet, internal: notYet };
  const listeners = await openListeners(options, handlers, opened);
  const mounts = await mountAll(options, listeners.internal.url, opened);
  const health = createHealth(mounts.flatMap(({ definition }) => definition.services.map((desc) => desc.typeName)));
  const stopping = new AbortController();
  const running: Running = { ...options, mounts, health, listeners, stopping: stopping.signal };
  for (const side of SIDES) handlers[side] = createHandler(side, running);
  const ready = begin(running);
  // Whoever waits for it sees the failure; nobody has to.
  ready.catch(() => {});
  const resources = opened.move();
  let stopped: Promise<void> | undefined;
  return {
    publicUrl: listeners.public.url,
    internalUrl: listeners.internal.url,
    ready,
    [Symbol.asyncDispose]() {
      stopping.abort(fail(Code.Unavailable, "DRAINING", "the server is stopping", { retryAfterMs: 1_000 }));
      stopped ??= stop(running, resources);
      return stopped;
    },
  };
}

/** What runs in this process. */
interface Running extends ServerOptions {
  mounts: MountedService[];
  health: HealthStatus;
  listeners: Record<Side, Listener>;
  /** Aborts when the process begins to stop. */
  stopping: AbortSignal;
}

async function openListeners(
  { definitions, platform, clock }: ServerOptions,
  handlers: Record<Side, RequestHandler>,
  opened: AsyncDisposableStack,
): Promise<Record<Side, Listener>> {
  const ports = portsOf(definitions, platform);
  const open = async (side: Side) => {
    const handler: RequestHandler = (request, response) => handlers[side](request, response);
    return opened.use(await listen({ host: platform.host, port: ports[side], clock, handler }));
  };
  return { public: await open("public"), internal: await open("internal") };
}

async function mountAll(
  options: ServerOptions,
  internalUrl: string,
  opened: AsyncDisposableStack,
): Promise<MountedService[]> {
  const names = options.definitions.map(({ name }) => name);
  const localUrl = (peer: string) => (names.includes(peer) ? internalUrl : undefined);
  const mounts: MountedService[] = [];
  for (const definition of options.definitions) {
    const config = valuesOf(definition, options);
    mounts.push(opened.use(await mountService(definition, { ...options, config, localUrl })));
  }
  return mounts;
}

function valuesOf({ name }: ServiceDefinition, { services }: ServerOptions): ServiceValues {
  return services[name] ?? {};
}

function createHandler(side: Side, running: Running): RequestHandler {
  const { mounts, log, clock, stopping } = running;
  const readiness = async () => {
    if (stopping.aborted) return ["the process is stopping"];
    const reasons = await Promise.all(mounts.map((mount) => mount.notReady()));
    return reasons.filter((reason) => reason !== undefined);
  };
  return createRequestHandler({
    routes: routesOf(side, running),
    plain: new Map([
      ...mounts.flatMap(({ parts }) => Object.entries(parts.plain ?? {})),
      ...Object.entries(probePaths(readiness, { showReasons: side === "internal" })),
    ]),
    mayLearnPaths: side === "public" ? () => true : (request) => isKnownCaller(request, mounts),
    log,
    clock,
  });
}

async function begin({ mounts, health, stopping }: Running): Promise<void> {
  await Promise.all(mounts.map((mount) => mount.begin(stopping)));
  if (stopping.aborted) return;
  health.setAll(true);
  // Only now, so that no job finds a service of its own process still starting.
  for (const mount of mounts) mount.startJobs();
}

async function stop(
  { mounts, health, listeners, platform, clock, log }: Running,
  resources: AsyncDisposable,
): Promise<void> {
  health.setAll(false);
  const startMs = clock.monotonic();
  const drainMs = platform.drainSeconds * 1000;
  const leftOf = (budgetMs: number) => Math.max(0, startMs + budgetMs - clock.monotonic());
  // Half of the time for calls that are running, the other half for what jobs have begun and for pools.
  await listeners.public.drain(leftOf(drainMs / 2));
  // Before the internal listener: a job may have to tell a service of this very process what it has done.
  await settledWithin(leftOf(drainMs), Promise.all(mounts.map((mount) => mount.stopJobs())));
  await listeners.internal.drain(leftOf(drainMs / 2));
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

/** Set ports win; else a service alone takes its own, and several together take the platform's. */
function portsOf(definitions: ServiceDefinition[], platform: PlatformConfig): Record<Side, number> {
  const own = definitions.length === 1 ? definitions[0]!.ports : { public: 8080, internal: 50051 };
  const ports = { public: platform.publicPort ?? own.public, internal: platform.internalPort ?? own.internal };
  if (ports.public === ports.internal && ports.public !== 0) {
    throw new StartupError("the public and the internal listener must not share a port");
  }
  return ports;
}

function routesOf(side: Side, { mounts, health, platform, stopping }: Running): Routes {
  const limits = side === "public" ? PUBLIC_LIMITS : INTERNAL_LIMITS;
  const visible = mounts.flatMap(({ definition }) => definition.services.filter((desc) => sideOf(desc) === side));
  const open = openRoutes(limits, stopping, (router) => {
    router.service(Health, side === "public" ? health.overallOnly : health.implementation);
    if (platform.reflection) registerReflection(router, [...visible, Health]);
  });
  const own = mounts.map((mount) => serviceRoutes(mount.steps, limits, (router) => mount.register(side, router)));
  return new Map([open, ...own].flatMap((routes) => [...routes]));
}

/** On the internal listener only a holder of a key learns which paths there are. */
function isKnownCaller(request: NodeRequest, mounts: MountedService[]): boolean {
  const token = request.headers[SERVICE_TOKEN_HEADER];
  const target = request.url ?? "";
  return mounts.some(({ steps }) => steps.authentication.verifyServiceToken(String(token), target).ok);
}

/** For the moment between opening the port and having something to answer with. */
const notYet: RequestHandler = (_, response) => {
  response.statusCode = 503;
  response.end();
};
