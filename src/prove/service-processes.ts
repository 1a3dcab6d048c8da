/**
 * The services that store something, as they are run for real: each a process of `concierge serve`, in production mode, over
 * databases of one server. They end with whoever started them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ServiceKey } from "../config.ts";
import type { DatabaseUrls } from "../db/provision.ts";
import { peerVariables, systemVariables } from "../dev/variables.ts";
import type { ServiceDefinition } from "../service.ts";
import { services as allServices } from "../services.ts";
import { CLUSTER_VARIABLE, testDatabase } from "../testing/cluster.ts";
import { freePort, MAIN_FILE } from "../testing/command.ts";
import { calleesOf, createServiceKey, createSigningKeys, createTokenKeys, pairsOf } from "../token/key-making.ts";
import { ISSUER } from "./auth-sessions.ts";

export const STORING_SERVICES = allServices.filter(({ hasDatabase }) => hasDatabase);

/** Where a service's listeners are. */
export interface ServiceUrls {
  publicUrl: string;
  internalUrl: string;
}

export interface ServiceProcess extends ServiceUrls {
  name: string;
  process: ChildProcess;
}

export interface ServiceProcesses {
  /** By service. */
  urls: Record<string, ServiceUrls>;
  databases: Record<string, DatabaseUrls>;
  /** A backend's, by callee. */
  keys: Record<string, ServiceKey>;
  running: ServiceProcess[];
}

export interface ProcessOptions {
  adminUrl: string;
  /** What the processes print goes there, to a file for each. */
  logFolder: string;
  /** Beside or instead of the usual ones. */
  variables?: Record<string, string>;
  /** What a command is run by, such as a shell that sets limits first; it gets the command as its last arguments. */
  wrapper?: string[];
}

const STARTED_MS = 120_000;
const POLL_MS = 50;
const VARIABLES = {
  CONCIERGE_ISSUER: ISSUER,
  CONCIERGE_LOG_LEVEL: "warn",
  CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false",
  // All calls come from one address, and all notifications from one caller.
  CONCIERGE_REQUESTS_PER_SECOND: "0",
  CONCIERGE_AUTH_ATTEMPTS_PER_ADDRESS: "100000",
  CONCIERGE_NOTIFICATION_RECIPIENTS_PER_MINUTE: "1000000",
};

/** Starts them and waits until they are ready; `opened` ends them. */
export async function startServiceProcesses(
  options: ProcessOptions,
  opened: AsyncDisposableStack,
): Promise<ServiceProcesses> {
  process.env[CLUSTER_VARIABLE] = options.adminUrl;
  // They go with the server.
  const databases = Object.fromEntries(
    await Promise.all(
      STORING_SERVICES.map(async ({ name }) => [name, await testDatabase(["platform", name])] as const),
    ),
  );
  const backends = calleesOf(STORING_SERVICES).map(({ name }) => createServiceKey("backend", name, "backend"));
  const pairs = pairsOf(allServices).map(({ caller, callee }) => createServiceKey(caller, callee, "service"));
  const shared = systemVariables({
    definitions: STORING_SERVICES,
    databases,
    serviceKeys: [...pairs, ...backends],
    signingKeys: await createSigningKeys("ES256"),
    tokenKeys: createTokenKeys(),
    push: { credentials: "", endpoint: "" },
  });
  const urls = Object.fromEntries(
    await Promise.all(STORING_SERVICES.map(async ({ name }) => [name, await freeUrls()] as const)),
  );
  const running = STORING_SERVICES.map((definition) => startProcess(definition, urls, shared, options));
  opened.defer(() => endAll(running));
  await Promise.all(running.map(untilReady));
  return { urls, databases, running, keys: Object.fromEntries(backends.map((key) => [key.callee, key])) };
}

async function freeUrls(): Promise<ServiceUrls> {
  const [publicPort, internalPort] = [await freePort(), await freePort()];
  return { publicUrl: `http://127.0.0.1:${publicPort}`, internalUrl: `http://127.0.0.1:${internalPort}` };
}

function startProcess(
  definition: ServiceDefinition,
  urls: Record<string, ServiceUrls>,
  shared: Record<string, string>,
  { logFolder, variables, wrapper = [] }: ProcessOptions,
): ServiceProcess {
  const { name } = definition;
  const own = urls[name]!;
  const [program, ...args] = [...wrapper, process.execPath, MAIN_FILE, "serve", "--with-parent", name];
  const log = openSync(join(logFolder, `${name}.log`), "a");
  const child = spawn(program!, args, {
    stdio: ["pipe", log, log],
    env: {
      PATH: process.env.PATH,
      ...{ ...VARIABLES, ...shared, ...peerVariables(definition, (peer) => urls[peer]!.internalUrl) },
      CONCIERGE_PUBLIC_PORT: new URL(own.publicUrl).port,
      CONCIERGE_INTERNAL_PORT: new URL(own.internalUrl).port,
      CONCIERGE_AUTH_REST_PORT: "0",
      ...variables,
    },
  });
  return { name, ...own, process: child };
}

/** Throws when it ends before. */
export async function untilReady({ name, internalUrl, process: child }: ServiceProcess): Promise<void> {
  for (const patience = AbortSignal.timeout(STARTED_MS); ; await delay(POLL_MS)) {
    if (hasEnded(child)) throw new Error(`${name} ended (${child.signalCode ?? child.exitCode})`);
    const answer = await fetch(`${internalUrl}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    if (patience.aborted) throw new Error(`${name} is not ready within ${STARTED_MS} ms`);
  }
}

export function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

async function endAll(running: ServiceProcess[]): Promise<void> {
  const ended = running.map(async ({ process: child }) => {
    if (hasEnded(child)) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  });
  await Promise.all(ended);
}
