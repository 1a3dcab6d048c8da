/**
 * Two replicas of every service, each a process as `concierge serve` runs it in demo mode, behind HAProxy with deploy/haproxy.cfg as
 * it stands: each machine of that file is an address of the loopback here. Keys are files of a folder, as `concierge keys` writes
 * them, so that a command and a restart are all that a rotation takes.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, openSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { systemClock as clock } from "../clock.ts";
import { PLATFORM, serviceOf, snakeCase } from "../config.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { openEnvironment } from "../dev/environment.ts";
import { startPostgres } from "../dev/postgres.ts";
import { peerVariables } from "../dev/variables.ts";
import type { ServiceDefinition } from "../service.ts";
import { services } from "../services.ts";
import { addCaller, readServiceKeys } from "../token/key-folder.ts";
import type { ServiceKey } from "../token/service-token.ts";

const PROXY_CONFIGURATION = fileURLToPath(new URL("../../deploy/haproxy.cfg", import.meta.url));
const PUBLIC_PORT = 8080;
export const STATE_PORT = 8404;
/** Starting all of them at once takes a machine of two cores half a minute, and a busy one longer. */
const PATIENCE_MS = 180_000;
const POLL_MS = 100;
const BACKEND = "shop";
export const ISSUER = "https://auth.example";
/** Whom the backend calls. */
export const CALLED = ["auth", "access", "organization", "notification"] as const;
/** What all processes say. */
export const LOG_FILE = fileURLToPath(new URL("../../.concierge/rolling.log", import.meta.url));
/** This source. */
export const MAIN_FILE = fileURLToPath(new URL("../main.ts", import.meta.url));

/** One place for a process of a service. */
interface Replica {
  service: ServiceDefinition;
  /** Of the machine that it is on. */
  host: string;
  /** What runs there: the source's main.ts, or that of another version. */
  mainFile: string;
  process?: ChildProcess;
}

export interface Cluster {
  publicUrl: string;
  /** A service's internal listener, through the proxy. */
  internalUrl(service: string): string;
  /** Of a role that sees all rows of a service's database. */
  databaseUrl(service: string): string;
  replicas: Replica[];
  keysFolder: string;
  /** Of a backend that calls `CALLED`. */
  backendKeys: ServiceKey[];
  /** Stops a replica as a deployment does and starts it again, perhaps as another version; resolves when the proxy uses it again. */
  restart(replica: Replica, mainFile?: string): Promise<void>;
  /** Runs a command of the source, or of another version; returns what it prints. */
  run(commandLine: string[], mainFile?: string): Promise<string>;
}

/** Opens it; `opened` closes it. `changes` are variables of every process. */
export async function openCluster(changes: Record<string, string>, opened: AsyncDisposableStack): Promise<Cluster> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-rolling-"));
  // PostgreSQL runs as another account where we are root, and must get in.
  await chmod(folder, 0o755);
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const environment = opened.use(await openDatabases(folder));
  const keysFolder = join(folder, "keys");
  for (const callee of CALLED) await addCaller(keysFolder, BACKEND, callee);
  // A network of its own for each run.
  const network = `127.${randomInt(1, 255)}.${randomInt(1, 255)}`;
  const [proxy, entrance, ...machines] = [`${network}.1`, `${network}.4`, `${network}.2`, `${network}.3`] as const;
  const internalUrl = (name: string) =>
    `http://${proxy}:${services.find((service) => service.name === name)!.ports.internal}`;
  const variables: Record<string, string> = {
    ...environment.variables,
    CONCIERGE_MODE: "demo",
    CONCIERGE_ISSUER: ISSUER,
    CONCIERGE_LOG_LEVEL: "warn",
    CONCIERGE_DRAIN_DELAY_SECONDS: "2",
    CONCIERGE_TRUSTED_PROXIES: "127.0.0.1",
    CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false",
    // All people are at one address here.
    CONCIERGE_AUTH_ATTEMPTS_PER_ADDRESS: "0",
    ...changes,
  };
  const replicas: Replica[] = machines.flatMap((host) =>
    services.map((service) => ({ service, host, mainFile: MAIN_FILE })),
  );
  mkdirSync(dirname(LOG_FILE), { recursive: true });
  const log = openSync(LOG_FILE, "w");
  const start = (replica: Replica) =>
    startReplica(replica, variablesOf(replica, variables, keysFolder, internalUrl), log);
  opened.defer(async () => void (await Promise.all(replicas.map((replica) => stop(replica.process)))));
  // First, because services wait for each other through it.
  opened.use(startProxy({ CONCIERGE_PUBLIC: entrance, CONCIERGE_PROXY: proxy }, machines, log));
  await Promise.all(replicas.map(start));
  await Promise.all(replicas.map((replica) => isUsed(replica, proxy, machines)));
  return {
    publicUrl: `http://${entrance}:${PUBLIC_PORT}`,
    internalUrl,
    databaseUrl(service) {
      const prefix = `CONCIERGE_${snakeCase(service)}_DATABASE`;
      return (variables[`${prefix}_JOB_URL`] ?? variables[`${prefix}_OWNER_URL`])!;
    },
    replicas,
    keysFolder,
    backendKeys: await readServiceKeys(keysFolder, BACKEND),
    async restart(replica, mainFile = replica.mainFile) {
      const code = await stop(replica.process);
      if (code !== 0) throw new Error(`${replica.service.name} ended with ${code}`);
      replica.mainFile = mainFile;
      await start(replica);
      await isUsed(replica, proxy, machines);
    },
    async run(commandLine, mainFile = MAIN_FILE) {
      const { stdout } = await promisify(execFile)(process.execPath, [mainFile, ...commandLine], { env: variables });
      return stdout;
    },
  };
}

async function openDatabases(folder: string) {
  const settings = { fsync: "off", synchronous_commit: "off", full_page_writes: "off", max_connections: "300" };
  return openEnvironment({
    folder,
    server: await startPostgres({ folder: join(folder, "postgres"), settings, isTemporary: true }),
    keepsDatabases: true,
    prefix: "",
    definitions: services,
    migrationsFolder: MIGRATIONS_FOLDER,
    migrates: true,
    clock,
    signal: new AbortController().signal,
  });
}

/** Its own variables only, with its keys as files. */
function variablesOf(
  { service, host }: Replica,
  variables: Record<string, string>,
  keysFolder: string,
  internalUrl: (service: string) => string,
): Record<string, string> {
  const names = services.map(({ name }) => name);
  const own = Object.entries(variables).filter(
    ([name]) => [service.name, PLATFORM].includes(serviceOf(name, names)) && !name.endsWith("_KEYS"),
  );
  const keys: Record<string, string> = {
    [`CONCIERGE_${snakeCase(service.name)}_SERVICE_KEYS_FILE`]: join(keysFolder, `${service.name}.json`),
  };
  if (service.name === "auth") {
    keys.CONCIERGE_AUTH_SIGNING_KEYS_FILE = join(keysFolder, "auth-signing.json");
    keys.CONCIERGE_AUTH_TOKEN_KEYS_FILE = join(keysFolder, "auth-tokens.json");
  }
  return { ...Object.fromEntries(own), ...keys, ...peerVariables(service, internalUrl), CONCIERGE_HOST: host };
}

async function startReplica(replica: Replica, env: Record<string, string>, log: number): Promise<void> {
  const { service, host, mainFile } = replica;
  // With a parent, so that none outlives this process.
  const commandLine = [mainFile, "serve", service.name, "--with-parent"];
  const child = spawn(process.execPath, commandLine, { env, stdio: ["pipe", log, log] });
  replica.process = child;
  const readyUrl = `http://${host}:${service.ports.internal}/readyz`;
  const isReady = async () => {
    if (child.exitCode !== null) throw new Error(`${service.name} ended while it was starting`);
    return (await fetch(readyUrl).catch(() => undefined))?.ok;
  };
  await until(`${service.name} is ready`, isReady);
}

/** As a deployment does it. Returns the exit code. */
async function stop(child: ChildProcess | undefined): Promise<number | null> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
  return child.exitCode;
}

/** Runs "$@" until standard input ends, as it does with this process. */
const WITH_PARENT = '"$@" & read -r _; kill $!; wait';

function startProxy(
  addresses: Record<"CONCIERGE_PUBLIC" | "CONCIERGE_PROXY", string>,
  [first, second]: readonly string[],
  log: number,
): AsyncDisposable {
  const env = { ...addresses, CONCIERGE_REPLICA_1: first, CONCIERGE_REPLICA_2: second };
  const commandLine = [process.env.CONCIERGE_TEST_HAPROXY ?? "/usr/sbin/haproxy", "-db", "-f", PROXY_CONFIGURATION];
  const child = spawn("/bin/sh", ["-c", WITH_PARENT, "sh", ...commandLine], { env, stdio: ["pipe", log, log] });
  return {
    async [Symbol.asyncDispose]() {
      const exited = once(child, "exit");
      child.stdin!.end();
      await exited;
    },
  };
}

/** Resolves when the proxy sends calls to both listeners of a replica. */
async function isUsed({ service, host }: Replica, proxy: string, machines: readonly string[]): Promise<void> {
  const server = `replica-${machines.indexOf(host) + 1}`;
  const rows = () =>
    fetch(`http://${proxy}:${STATE_PORT}/;csv`)
      .then((answer) => answer.text())
      .catch(() => "");
  const places = [`${service.name}_public,${server},`, `${service.name}_internal,${server},`];
  await until(`the proxy uses ${service.name} at ${host}`, async () => {
    const found = (await rows()).split("\n").filter((row) => places.some((place) => row.startsWith(place)));
    // notification-sender is called by nobody.
    return found.length === 0 ? service.name === "notification-sender" : found.every((row) => row.includes(",UP,"));
  });
}

/** Not as often as tests look: what is waited for needs the same cores. */
async function until(what: string, look: () => Promise<boolean | undefined>): Promise<void> {
  const endsAt = clock.monotonic() + PATIENCE_MS;
  while (!(await look())) {
    if (clock.monotonic() > endsAt) throw new Error(`waited ${PATIENCE_MS / 1_000} s in vain: ${what}`);
    await delay(POLL_MS);
  }
}
