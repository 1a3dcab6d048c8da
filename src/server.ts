/**
 * Runs services: one or all of them in a process, on one public and one internal listener. Ports open once the
 * configuration is sound; each service answers when it is ready (mount.ts). Stopping drains: the public listener, then
 * jobs, then the internal listener that both may still need, then connections and pools.
 */

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
  type NodeRequest,
  openRoutes,
  type PlainHandler,
  PUBLIC_LIMITS,
  type Routes,
  serviceRoutes,
} from "./rpc/handler.ts";
import { createHealth } from "./rpc/health.ts";
import { type Listener, listen } from "./rpc/listener.ts";
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

/** Opens the listeners and starts the services. Throws a StartupError, with nothing left open, when that cannot work. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { definitions, platform, clock, log } = options;
  const handlers: Record<Side, PlainHandler> = { public: notYet, internal: notYet };
  const ports = portsOf(definitions, platform);
  const missing = definitions.flatMap((definition) => missingKeys(definition, options.services[definition.name] ?? {}));
  if (missing.length > 0) throw new StartupError(missing.join("\n"), ExitCode.config);
  const open = (side: Side) =>
    listen({
      host: platform.host,
      port: ports[side],
      clock,
      handler: (request, response) => handlers[side](request, response),
    });

  await using opened = new AsyncDisposableStack();
  const listeners: Record<Side, Listener> = {
    public: opened.use(await open("public")),
    internal: opened.use(await open("internal")),
  };
  const mounts: MountedService[] = [];
  for (const definition of definitions) {
    const localUrl = (peer: string) =>
      definitions.some((other) => other.name === peer) ? listeners.internal.url : undefined;
    const config = options.services[definition.name] ?? {};
    mounts.push(opened.use(await mountService(definition, { ...options, config, localUrl })));
  }

  const stopping = new AbortController();
  const health = createHealth(mounts.flatMap(({ definition }) => definition.services.map((desc) => desc.typeName)));
  const readiness = async () => {
    if (stopping.signal.aborted) return ["the process is stopping"];
    const reasons = await Promise.all(mounts.map((mount) => mount.notReady()));
    return reasons.filter((reason) => reason !== undefined);
  };
  for (const side of ["public", "internal"] as const) {
    handlers[side] = createRequestHandler({
      routes: routesOf(side, mounts, health, platform, stopping.signal),
      plain: new Map([
        ...mounts.flatMap(({ parts }) => Object.entries(parts.plain ?? {})),
        ...Object.entries(probePaths(readiness, { showReasons: side === "internal" })),
      ]),
      mayLearnPaths: side === "public" ? () => true : (request) => isKnownCaller(request, mounts),
      log,
      clock,
    });
  }

  const ready = Promise.all(mounts.map((mount) => mount.begin(stopping.signal))).then(() => {
    if (stopping.signal.aborted) return;
    health.setAll(true);
    // Only now, so that no job finds a service of its own process still starting.
    for (const mount of mounts) mount.startJobs();
  });
  // Whoever waits for it sees the failure; nobody has to.
  ready.catch(() => {});
  const resources = opened.move();
  let stopped: Promise<void> | undefined;

  async function stop(): Promise<void> {
    health.setAll(false);
    stopping.abort(fail(Code.Unavailable, "DRAINING", "the server is stopping", { retryAfterMs: 1_000 }));
    // Half of the time for calls that are running, the other half for what jobs have begun and for pools.
    const endMs = clock.monotonic() + (platform.drainSeconds * 1000) / 2;
    const left = () => Math.max(0, endMs - clock.monotonic());
    await listeners.public.drain(left());
    // Before the internal listener: a job may have to tell a service of this very process what it has done.
    await Promise.all(mounts.map((mount) => mount.stopJobs()));
    await listeners.internal.drain(left());
    await resources.disposeAsync();
    log.info("stopped");
  }

  return {
    publicUrl: listeners.public.url,
    internalUrl: listeners.internal.url,
    ready,
    [Symbol.asyncDispose]: () => (stopped ??= stop()),
  };
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

function routesOf(
  side: Side,
  mounts: MountedService[],
  health: ReturnType<typeof createHealth>,
  platform: PlatformConfig,
  stopping: AbortSignal,
): Routes {
  const limits = side === "public" ? PUBLIC_LIMITS : INTERNAL_LIMITS;
  const visible = mounts.flatMap(({ definition }) => definition.services.filter((desc) => sideOf(desc) === side));
  const open = openRoutes(limits, stopping, (router) => {
    router.service(Health, side === "public" ? health.overallOnly : health.implementation);
    if (platform.reflection) registerReflection(router, [...visible, Health]);
  });
  return new Map([
    ...open,
    ...mounts.flatMap((mount) => [...serviceRoutes(mount.steps, limits, (router) => mount.register(side, router))]),
  ]);
}

/** On the internal listener only a holder of a key learns which paths there are. */
function isKnownCaller(request: NodeRequest, mounts: MountedService[]): boolean {
  const token = request.headers[SERVICE_TOKEN_HEADER];
  const target = request.url ?? "";
  return mounts.some(({ steps }) => steps.authentication.verifyServiceToken(String(token), target).ok);
}

/** For the moment between opening the port and having something to answer with. */
const notYet: PlainHandler = (_, response) => {
  response.statusCode = 503;
  response.end();
};
