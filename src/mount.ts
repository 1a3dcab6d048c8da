/**
 * One service inside a process: its database, its connections to others, its way to know callers, and the parts that its
 * definition started. It answers calls once the schema is verified and the signing keys are there; until then it waits.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { ConnectRouter } from "@connectrpc/connect";
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
import type { StepsOf } from "./rpc/steps.ts";
import type { ServiceContext, ServiceDefinition, ServiceParts, ServiceValues } from "./service.ts";
import { createAccessTokenVerifier } from "./token/access-token.ts";
import { fixedKeyRing, type KeyRing, remoteKeyRing } from "./token/key-ring.ts";
import { createServiceTokenVerifier } from "./token/service-token.ts";
import { createSessionCheck, type SessionCheck } from "./token/sessions.ts";
import { spendToken, sweepSpentTokens } from "./token/spent-tokens.ts";

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
  migrationsFolder: string;
  clock: Clock;
  log: Logger;
}

export interface Mounted extends AsyncDisposable {
  definition: ServiceDefinition;
  parts: ServiceParts;
  steps: StepsOf;
  /** Puts the implementations of one side on a router. */
  register(side: Side): (router: ConnectRouter) => void;
  /** Resolves when the service answers; rejects with a StartupError when it never will. */
  begin(signal: AbortSignal): Promise<void>;
  /** Starts what the service does by itself. */
  startJobs(): void;
  /** Why it is not ready, or undefined. */
  notReady(): Promise<string | undefined>;
}

export async function mountService(definition: ServiceDefinition, options: MountOptions): Promise<Mounted> {
  const { platform, config, clock } = options;
  const log = options.log.child({ service: definition.name });
  const keys = config.serviceKeys?.keys ?? [];
  const database = definition.hasDatabase ? openServiceDatabase(definition, config) : undefined;
  const connections = connectPeers(definition, keys, options);
  const clients = Object.fromEntries(
    Object.entries(definition.peers).map(([peer, desc]) => [peer, connections.get(peer)!.client(desc)]),
  );
  const context: ServiceContext = {
    mode: platform.mode,
    issuer: platform.issuer,
    config,
    clock,
    log,
    get db() {
      if (!database) throw new Error(`${definition.name} has no database`);
      return database.db;
    },
    clients,
  };
  const parts = await definition.start(context);
  const users = parts.users ?? askAuth(definition, connections, options);
  checkContract(definition, parts);

  let started = false;
  let waitingFor = "its start";
  let jobs: AsyncDisposable | undefined;
  const steps: StepsOf = {
    authentication: {
      mode: platform.mode,
      verifyAccessToken: createAccessTokenVerifier(users.keyRing, { issuer: platform.issuer, clock }),
      keyRing: users.keyRing,
      checkSession: users.checkSession,
      verifyServiceToken: createServiceTokenVerifier(definition.name, keys, clock),
    },
    isStarted: () => started,
    spendToken: (tokenId, expiresAt) => spendToken(context.db, tokenId, expiresAt),
  };

  async function waitUntil(what: string, attempt: () => Promise<void>, signal: AbortSignal): Promise<void> {
    waitingFor = what;
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof StartupError) throw error;
        if (tries === 0) log.warn({ error }, `waiting for ${what}`);
      }
      await delay(WAIT_MS, undefined, { signal }).catch(() => {});
    }
  }

  return {
    definition,
    parts,
    steps,
    register: (side) => (router) => {
      for (const { desc, implementation } of parts.implementations) {
        if (sideOf(desc) === side) router.service(desc, implementation);
      }
    },
    async begin(signal) {
      if (database) await waitUntil("the database", () => checkDatabase(definition, config, options), signal);
      await waitUntil("the signing keys of auth", () => users.keyRing.refresh(), signal);
      if (signal.aborted) return;
      started = true;
      log.info("ready");
    },
    startJobs() {
      jobs = startJobs([...platformJobs(database, users.keyRing), ...(parts.jobs ?? [])], log);
    },
    async notReady() {
      if (!started) return `${definition.name}: waiting for ${waitingFor}`;
      try {
        await database?.ping();
        return undefined;
      } catch {
        return `${definition.name}: the database does not answer`;
      }
    },
    async [Symbol.asyncDispose]() {
      await jobs?.[Symbol.asyncDispose]();
      await parts.stop?.();
      for (const connection of connections.values()) connection[Symbol.dispose]();
      await database?.[Symbol.asyncDispose]();
    },
  };
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
  { config, localUrl, clock }: MountOptions,
): Map<string, ServiceConnection> {
  const connections = new Map<string, ServiceConnection>();
  for (const peer of Object.keys(definition.peers)) {
    const key = keys.find((candidate) => candidate.caller === definition.name && candidate.callee === peer);
    if (!key)
      throw new StartupError(`${definition.name} calls ${peer} but has no service key for it (concierge keys init)`);
    connections.set(peer, connectService({ baseUrl: peerUrlOf(peer, config, localUrl), key, clock }));
  }
  return connections;
}

function peerUrlOf(peer: string, config: ServiceValues, localUrl: MountOptions["localUrl"]): string {
  return localUrl(peer) ?? (config[`${peer}Url`] as string);
}

/** How every service but auth knows users: by auth's published keys, and by asking it for the session. */
function askAuth(
  definition: ServiceDefinition,
  connections: Map<string, ServiceConnection>,
  { config, localUrl, clock }: MountOptions,
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
  return { keyRing: remoteKeyRing(jwksUrl, clock), checkSession: createSessionCheck(ask) };
}

/** What the definition promises to serve is what its parts implement, and every method says who may call it. */
function checkContract(definition: ServiceDefinition, parts: ServiceParts): void {
  const implemented = new Set(parts.implementations.map(({ desc }) => desc));
  for (const desc of definition.services) {
    if (!implemented.has(desc)) throw new StartupError(`${definition.name} does not implement ${desc.typeName}`);
    for (const method of desc.methods) accessRule(method);
  }
}

async function checkDatabase(
  definition: ServiceDefinition,
  config: ServiceValues,
  { migrationsFolder }: MountOptions,
): Promise<void> {
  const runtimeUrl = config.databaseUrl!;
  await checkSchema({ runtimeUrl, series: ["platform", definition.name], folder: migrationsFolder });
}

function platformJobs(database: Database | undefined, keyRing: KeyRing): Job[] {
  const refreshKeys = { name: "refresh signing keys", everyMs: KEY_REFRESH_MS, run: () => keyRing.refresh() };
  if (!database) return [refreshKeys];
  return [refreshKeys, { name: "sweep spent tokens", everyMs: SWEEP_MS, run: () => sweepSpentTokens(database.db) }];
}
