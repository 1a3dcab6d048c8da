/**
 * Every service as a process of its own, as in production: configured by its environment alone, over its own database. One
 * that ends while it starts fails the start of all, and none is left running.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { flushCompileCache } from "node:module";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { PLATFORM, serviceOf } from "../config.ts";
import { ExitCode, StartupError } from "../errors.ts";
import type { ServiceDefinition } from "../service.ts";
import { peerVariables } from "./variables.ts";

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 10_000;
const POLL_MS = 50;

export interface ProcessesOptions {
  definitions: ServiceDefinition[];
  /** Every variable of every service; each process gets its own ones only. */
  variables: Record<string, string>;
  node: string;
  mainFile: string;
  /** What the processes log. */
  log(service: string, text: string): void;
  /** Gives up the start. */
  signal: AbortSignal;
}

export interface ServiceProcesses extends AsyncDisposable {
  publicUrl(service: string): string;
  internalUrl(service: string): string;
}

interface Ports {
  public: number;
  internal: number;
}

/** Starts them all at once, in no order, and waits until each says that it is ready. */
export async function startProcesses(options: ProcessesOptions): Promise<ServiceProcesses> {
  const ports = new Map<string, Ports>();
  for (const { name } of options.definitions) ports.set(name, { public: await freePort(), internal: await freePort() });
  // What this process has compiled, its children need not compile again.
  flushCompileCache();
  const children: ChildProcess[] = [];
  await using opened = new AsyncDisposableStack();
  opened.defer(async () => void (await Promise.all(children.map(stop))));
  const starting = new AbortController();
  const signal = AbortSignal.any([options.signal, starting.signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
  const urlOf = (service: string, side: keyof Ports) => `http://127.0.0.1:${ports.get(service)![side]}`;
  for (const definition of options.definitions) {
    const { name } = definition;
    const peers = peerVariables(definition, (peer) => urlOf(peer, "internal"));
    const child = spawn(options.node, [options.mainFile, "serve", name, "--with-parent"], {
      env: { ...ownVariables(name, options), ...peers, ...portVariables(ports.get(name)!) },
      stdio: ["pipe", "pipe", "pipe"],
    });
    for (const output of [child.stdout, child.stderr]) {
      output.setEncoding("utf8").on("data", (text: string) => options.log(name, text));
    }
    children.push(child);
    child.once("exit", () => starting.abort(new StartupError(`${name} ended while it was starting`, ExitCode.failure)));
  }
  await Promise.all(options.definitions.map(({ name }) => waitUntilReady(name, urlOf(name, "internal"), signal)));
  const resources = opened.move();
  return {
    publicUrl: (service) => urlOf(service, "public"),
    internalUrl: (service) => urlOf(service, "internal"),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** A service's process knows no secret of another one. */
function ownVariables(name: string, { variables, definitions }: ProcessesOptions): Record<string, string> {
  const names = definitions.map((definition) => definition.name);
  const own = Object.entries(variables).filter(([variable]) => [name, PLATFORM].includes(serviceOf(variable, names)));
  const free: Record<string, string> = name === "auth" ? { CONCIERGE_AUTH_REST_PORT: "0" } : {};
  return { CONCIERGE_MODE: "development", ...free, ...Object.fromEntries(own) };
}

function portVariables(ports: Ports): Record<string, string> {
  return { CONCIERGE_PUBLIC_PORT: String(ports.public), CONCIERGE_INTERNAL_PORT: String(ports.internal) };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function waitUntilReady(name: string, internalUrl: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const response = await fetch(`${internalUrl}/readyz`, { signal }).catch(() => undefined);
    if (response?.ok) return;
    if (signal.aborted) throw startFailure(name, signal.reason);
    await delay(POLL_MS);
  }
}

function startFailure(name: string, reason: unknown): unknown {
  if (!(reason instanceof Error) || reason.name !== "TimeoutError") return reason;
  return new StartupError(`${name} was not ready within ${START_TIMEOUT_MS / 1000} s`, ExitCode.unavailable);
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const forced = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(forced);
}
