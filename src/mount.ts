/**
 * One service inside a process: its database, its connections to others, its way to know callers, and the parts that its
 * definition started. It answers calls once the schema is verified and the signing keys are there; until then it waits.
 */
import { setTimeout as delay } from "node:timers/promises";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { AuthInternalService } from "../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService, type ServiceConnection } from "./client/service-client.ts";
import type { Clock } from "./clock.ts";
import type { PlatformConfig, ServiceKey } from "./config.ts";
import { type Database, openDatabase } from "./db/database.ts";
import { checkSchema } from "./db/migrate.ts";
import { StartupError } from "./errors.ts";
import { type Job, startJobs } from "./jobs.ts";
import type { Logger } from "./log.ts";
import { accessRule, type Side, sideOf } from "./rpc/access.ts";
import type { Authentication } from "./rpc/authenticate.ts";
import type { Served } from "./rpc/routes.ts";
import type { StepsOf } from "./rpc/steps.ts";
import type { ServiceDefinition, ServiceParts, ServiceValues } from "./service.ts";
import type { Gauge } from "./telemetry/metrics.ts";
import { createAccessTokenVerifier } from "./token/access-token.ts";
import { fixedKeyRing, type KeyRing, remoteKeyRing } from "./token/key-ring.ts";
import { createServiceTokenVerifier } from "./token/service-token.ts";
import { createSessionCheck, type SessionCheck } from "./token/session-check.ts";
import { spendToken, sweepSpentTokens } from "./token/spent-tokens.ts";

const { IDEMPOTENCY_UNKNOWN } = MethodOptions_IdempotencyLevel;
const WAIT_MS = 250;
const KEY_REFRESH_MS = 60_000;
const SWEEP_MS = 60_000;
const SESSION_CHECK_TIMEOUT_MS = 1_000;

export interface MountOptions {
  platform: PlatformConfig;
  /** The values of the service's own variables. */
  config: ServiceValues;
  /** Where a peer's internal listener is, when it is in this very process. */
  localUrl(peer: string): string | undefined;
  /** The authorities (PEM) that certify peers; the well-known ones when not set. */
  peerCa?: string;
  migrationsFolder: string;
  clock: Clock;
  log: Logger;
}

/** Makes the parts of one service. Nothing is reached yet; begin() waits for what must be there. */
export async function mountService(definition: ServiceDefinition, options: MountOptions): Promise<MountedService> {
  const { platform, config, clock } = options;
  const log = options.log.child({ service: definition.name });
  const keys = config.serviceKeys?.keys ?? [];
  await using opened = new AsyncDisposableStack();
  const database = definition.hasDatabase ? opened.use(openServiceDatabase(definition, config)) : undefined;
  const connections = connectPeers(definition, keys, options, opened);
  const parts = await definition.start({
    mode: platform.mode,
    issuer: platform.issuer,
    config,
    clock,
    log,
    get db() {
      if (!database) throw new Error(`${definition.name} has no database`);
      return database.db;
    },
    clients: clientsOf(definition, connections),
  });
  opened.defer(async () => parts.stop?.());
  checkContract(definition, parts);
  const users = parts.users ?? askAuth(definition, connections, options);
  const authentication = {
    mode: platform.mode,
    verifyAccessToken: createAccessTokenVerifier(users.keyRing, { issuer: platform.issuer, clock }),
    keyRing: users.keyRing,
    checkSession: users.checkSession,
    verifyServiceToken: createServiceTokenVerifier(definition.name, keys, clock),
  };
  const checkStorage = () => checkDatabase(definition, options);
  return new MountedService({ definition, parts, authentication, database, checkStorage, log }, opened.move());
}

interface MountedParts {
  definition: ServiceDefinition;
  parts: ServiceParts;
  authentication: Authentication;
  database: Database | undefined;
  /** Resolves when the database has the schema that this code needs. */
  checkStorage(): Promise<void>;
  log: Logger;
}

/** A service that was mounted: waiting, then answering, until it is disposed. */
export class MountedService implements AsyncDisposable {
  readonly definition: ServiceDefinition;
  readonly parts: ServiceParts;
  readonly steps: StepsOf;
  readonly #authentication: Authentication;
  readonly #database: Database | undefined;
  readonly #checkStorage: () => Promise<void>;
  readonly #log: Logger;
  readonly #resources: AsyncDisposableStack;
  #waitingFor: string | undefined = "its start";
  #jobs: AsyncDisposable | undefined;

  constructor(
    { definition, parts, authentication, database, checkStorage, log }: MountedParts,
    resources: AsyncDisposableStack,
  ) {
    this.definition = definition;
    this.parts = parts;
    this.#authentication = authentication;
    this.#database = database;
    this.#checkStorage = checkStorage;
    this.#log = log;
    this.#resources = resources;
    this.steps = {
      authentication,
      isStarted: () => this.#waitingFor === undefined,
      async spendToken(tokenId, expiresAt) {
        if (!database) throw new Error(`${definition.name} has nowhere to remember spent tokens`);
        return spendToken(database.db, tokenId, expiresAt);
      },
    };
  }

  /** What it serves on one side. */
  served(side: Side): Served {
    const implementations = this.parts.implementations.filter(({ desc }) => sideOf(desc) === side);
    return { service: this.steps, implementations };
  }

  /** Resolves when the service answers; rejects with a StartupError when it never will. */
  async begin(signal: AbortSignal): Promise<void> {
    if (this.#database) await this.#waitUntil("the database", this.#checkStorage, signal);
    await this.#waitUntil("the signing keys of auth", () => this.#authentication.keyRing.refresh(), signal);
    if (signal.aborted) return;
    this.#waitingFor = undefined;
    this.#log.info("ready");
  }

  async #waitUntil(what: string, attempt: () => Promise<void>, signal: AbortSignal): Promise<void> {
    this.#waitingFor = what;
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof StartupError) {
          throw new StartupError(`${this.definition.name}: ${error.message}`, error.exitCode, { cause: error });
        }
        if (tries === 0) this.#log.warn({ error }, `waiting for ${what}`);
      }
      await delay(WAIT_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Why it is not ready, or undefined. */
  async notReady(): Promise<string | undefined> {
    const { name } = this.definition;
    if (this.#waitingFor !== undefined) return `${name}: waiting for ${this.#waitingFor}`;
    try {
      await this.#database?.ping();
      return undefined;
    } catch {
      return `${name}: the database does not answer`;
    }
  }

  /** What /metrics shows of it. */
  gauges(): Gauge[] {
    const gauges = this.parts.gauges ?? [];
    const database = this.#database;
    if (!database) return gauges;
    const service = this.definition.name;
    const connections = (["used", "idle"] as const).map((state) => ({
      name: "db_pool_connections",
      help: "Open connections to the database",
      labels: { service, state },
      read: () => database.poolCounts()[state],
    }));
    const waiting = {
      name: "db_pool_waiting",
      help: "Queries and transactions that wait for a connection",
      labels: { service },
      read: () => database.poolCounts().waiting,
    };
    return [...gauges, ...connections, waiting];
  }

  /** Starts what the service does by itself. */
  startJobs(): void {
    const jobs = [...platformJobs(this.#database, this.#authentication.keyRing), ...(this.parts.jobs ?? [])];
    this.#jobs = startJobs(jobs, this.#log);
  }

  /** Ends it, after the runs that are under way. */
  async stopJobs(): Promise<void> {
    await this.#jobs?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopJobs();
    await this.#resources.disposeAsync();
  }
}

function openServiceDatabase(definition: ServiceDefinition, config: ServiceValues): Database {
  return openDatabase({
    url: config.databaseUrl!,
    poolSize: config.databasePoolSize!,
    applicationName: `concierge ${definition.name}`,
  });
}

function connectPeers(
  definition: ServiceDefinition,
  keys: ServiceKey[],
  { config, localUrl, peerCa, clock }: MountOptions,
  opened: AsyncDisposableStack,
): Map<string, ServiceConnection> {
  const connections = new Map<string, ServiceConnection>();
  for (const peer of Object.keys(definition.peers)) {
    const key = keyOfPair(keys, definition.name, peer)!;
    const baseUrl = peerUrlOf(peer, config, localUrl);
    connections.set(peer, opened.use(connectService({ baseUrl, ca: peerCa, key, clock })));
  }
  return connections;
}

/** Which keys a service lacks to call its peers, or to be called at all: one line each. Asked before a port is opened. */
export function missingKeys({ name, peers, services }: ServiceDefinition, config: ServiceValues): string[] {
  const keys = config.serviceKeys?.keys ?? [];
  const missing = Object.keys(peers)
    .filter((peer) => !keyOfPair(keys, name, peer))
    .map((peer) => `${name} calls ${peer} but has no service key for it: run \`concierge keys init\``);
  const takesCalls = services.some((desc) => sideOf(desc) === "internal");
  if (takesCalls && !keys.some(({ callee }) => callee === name)) {
    missing.push(`${name} takes internal calls but has no service key of any caller: run \`concierge keys init\``);
  }
  return missing;
}

function keyOfPair(keys: ServiceKey[], caller: string, callee: string): ServiceKey | undefined {
  return keys.find((key) => key.caller === caller && key.callee === callee);
}

function clientsOf({ peers }: ServiceDefinition, connections: Map<string, ServiceConnection>) {
  return Object.fromEntries(Object.entries(peers).map(([peer, desc]) => [peer, connections.get(peer)!.client(desc)]));
}

function peerUrlOf(peer: string, config: ServiceValues, localUrl: MountOptions["localUrl"]): string {
  return localUrl(peer) ?? (config[`${peer}Url`] as string);
}

/** How every service but auth knows users: by auth's published keys, and by asking it for the session. */
function askAuth(
  definition: ServiceDefinition,
  connections: Map<string, ServiceConnection>,
  { config, localUrl, peerCa, clock }: MountOptions,
): { keyRing: KeyRing; checkSession: SessionCheck } {
  const auth = connections.get("auth");
  if (!auth) {
    const needed = definition.services.some((desc) => desc.methods.some((method) => accessRule(method).who === "user"));
    if (needed) throw new StartupError(`${definition.name} has methods for users but does not name auth as a peer`);
    return { keyRing: fixedKeyRing({ keys: [] }), checkSession: () => Promise.resolve(false) };
  }
  const client = auth.client(AuthInternalService);
  const ask = async (sessionId: string, generation: number) => {
    const { live } = await client.checkSession({ sessionId, generation }, { timeoutMs: SESSION_CHECK_TIMEOUT_MS });
    return live;
  };
  const jwksUrl = new URL("/.well-known/jwks.json", peerUrlOf("auth", config, localUrl)).href;
  return { keyRing: remoteKeyRing(jwksUrl, clock, peerCa), checkSession: createSessionCheck(ask) };
}

/** What the definition promises to serve is what its parts implement, and every method says who may call it. */
function checkContract(definition: ServiceDefinition, parts: ServiceParts): void {
  const implemented = new Set(parts.implementations.map(({ desc }) => desc));
  for (const desc of definition.services) {
    if (!implemented.has(desc)) throw new StartupError(`${definition.name} does not implement ${desc.typeName}`);
    for (const method of desc.methods) {
      const spendsTokens = accessRule(method).who === "callers" && method.idempotency === IDEMPOTENCY_UNKNOWN;
      if (!spendsTokens || definition.hasDatabase) continue;
      throw new StartupError(
        `${desc.typeName}/${method.name} is not declared idempotent, so ${definition.name} needs a database to remember spent tokens`,
      );
    }
  }
}

async function checkDatabase({ name }: ServiceDefinition, { config, migrationsFolder }: MountOptions): Promise<void> {
  await checkSchema({ runtimeUrl: config.databaseUrl!, series: ["platform", name], folder: migrationsFolder });
}

function platformJobs(database: Database | undefined, keyRing: KeyRing): Job[] {
  const refreshKeys = { name: "refresh signing keys", everyMs: KEY_REFRESH_MS, run: () => keyRing.refresh() };
  if (!database) return [refreshKeys];
  return [refreshKeys, { name: "sweep spent tokens", everyMs: SWEEP_MS, run: () => sweepSpentTokens(database.db) }];
}
