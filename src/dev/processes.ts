/** Every service as a process of its own, as in production: configured by its environment alone, over its own database. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { PLATFORM, serviceOf, snakeCase } from "../config.ts";
import type { ServiceDefinition } from "../service.ts";

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
  await using opened = new AsyncDisposableStack();
  const urlOf = (service: string, side: keyof Ports) => `http://127.0.0.1:${ports.get(service)![side]}`;
  const peers = peerVariables(options.definitions, (service) => urlOf(service, "internal"));
  for (const { name } of options.definitions) {
    const child = spawn(options.node, [options.mainFile, "serve", name, "--with-parent"], {
      env: { ...ownVariables(name, options), ...peers[name], ...portVariables(ports.get(name)!) },
      stdio: ["pipe", "pipe", "pipe"],
    });
    for (const output of [child.stdout, child.stderr]) {
      output.setEncoding("utf8").on("data", (text: string) => options.log(name, text));
    }
    opened.defer(() => stop(child));
  }
  await Promise.all(options.definitions.map(({ name }) => waitUntilReady(name, urlOf(name, "internal"))));
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
  return { CONCIERGE_MODE: "development", ...Object.fromEntries(own) };
}

function peerVariables(definitions: ServiceDefinition[], urlOf: (service: string) => string) {
  return Object.fromEntries(
    definitions.map(({ name, peers }) => {
      const urls = Object.keys(peers).map((peer) => [
        `CONCIERGE_${snakeCase(name)}_${snakeCase(peer)}_URL`,
        urlOf(peer),
      ]);
      return [name, Object.fromEntries(urls) as Record<string, string>];
    }),
  );
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

async function waitUntilReady(name: string, internalUrl: string): Promise<void> {
  const timeout = AbortSignal.timeout(START_TIMEOUT_MS);
  while (!timeout.aborted) {
    const response = await fetch(`${internalUrl}/readyz`, { signal: timeout }).catch(() => undefined);
    if (response?.ok) return;
    await delay(POLL_MS);
  }
  throw new Error(`${name} did not get ready within ${START_TIMEOUT_MS / 1000} s`);
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const forced = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(forced);
}
