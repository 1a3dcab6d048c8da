/**
 * One service inside a process: its database, its connections to others, its way to know callers, and the parts that its
 * definition started. It answers calls once the schema is verified and the signing keys are there; until then it waits.
 */
import { setTimeout as delay } from "node:timers/promises";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { FeedInternalService } from "../gen/concierge/feed/v1/feed_service_pb.ts";
import type { PlatformConfig } from "./config.ts";
import { type Database, type Db, openDatabase } from "./db/database.ts";
import { checkSchema } from "./db/migrate.ts";
import { StartupError } from "./errors.ts";
import { Consumers } from "./feed/consumers.ts";
import { ownFeed, type ServedFeed } from "./feed/handlers.ts";
import { FeedLog } from "./feed/log.ts";
import { type EventReaders, eventReaders } from "./feed/readers.ts";
import { trimFeed } from "./feed/retention.ts";
import { type Job, startJobs } from "./jobs.ts";
import type { Logger } from "./log.ts";
import { clientsOf, connectPeers, keysOf, type PeerOptions } from "./peers.ts";
import { rightsOf } from "./rights.ts";
import { accessRule, type Side, sideOf } from "./rpc/access.ts";
import type { Authentication } from "./rpc/authenticate.ts";
import type { Served } from "./rpc/routes.ts";
import type { StepsOf } from "./rpc/steps.ts";
import { whenAborted } from "./rpc/until-aborted.ts";
import type { ServiceDefinition, ServiceParts, ServiceValues } from "./service.ts";
import type { Gauge } from "./telemetry/metrics.ts";
import { createAccessTokenVerifier } from "./token/access-token.ts";
import type { KeyRing } from "./token/key-ring.ts";
import { createServiceTokenVerifier } from "./token/service-token.ts";
import { spendToken, sweepSpentTokens } from "./token/spent-tokens.ts";
import { type Users, usersOfAuth } from "./users.ts";

const { IDEMPOTENCY_UNKNOWN } = MethodOptions_IdempotencyLevel;
const WAIT_MS = 250;
const KEY_REFRESH_MS = 60_000;
const SWEEP_MS = 60_000;
const JOB_POOL_SIZE = 3;

export interface MountOptions extends PeerOptions {
  platform: PlatformConfig;
  migrationsFolder: string;
  log: Logger;
  /** Called for each call of a person that went on although nobody could tell whether the session lives, or what the person may do. */
  onStale?(): void;
}

/** Makes the parts of one service. Nothing is reached yet; begin() waits for what must be there. */
export async function mountService(definition: ServiceDefinition, options: MountOptions): Promise<MountedService> {
  const { platform, config, clock } = options;
  const log = options.log.child({ service: definition.name });
  await using opened = new AsyncDisposableStack();
  const database = definition.hasDatabase ? opened.use(openServiceDatabase(definition, config)) : undefined;
  const jobDatabase = definition.hasTenants ? opened.use(openJobDatabase(definition, config)) : undefined;
  const jobDb = (jobDatabase ?? database)?.db;
  const feed =
    definition.events && opened.use(openFeed(definition, database!.db, jobDatabase?.db, { ...options, log }));
  const connections = connectPeers(definition, options, opened);
  const rights = rightsOf(definition, connections, { ...options, log, feed: feed?.log });
  const parts = await definition.start({
    mode: platform.mode,
    issuer: platform.issuer,
    config,
    clock,
    log,
    get db() {
      return existing(definition, database?.db);
    },
    get jobDb() {
      return existing(definition, jobDb);
    },
    get feed() {
      if (!feed) throw new Error(`${definition.name} publishes no events`);
      return feed.log;
    },
    get rights() {
      if (!rights) throw new Error(`${definition.name} does not ask what people may do`);
      return rights.watch;
    },
    clients: clientsOf(definition, connections),
  });
  opened.defer(async () => parts.stop?.());
  if (parts.loadRights) rights?.decideBy(parts.loadRights);
  checkContract(definition, parts, rights !== undefined);
  const users: Users =
    parts.users ?? usersOfAuth(definition, connections, { ...options, allowStale: platform.allowStale, log });
  const authentication = {
    mode: platform.mode,
    verifyAccessToken: createAccessTokenVerifier(users.keyRing, { issuer: platform.issuer, clock }),
    keyRing: users.keyRing,
    checkSession: users.checkSession,
    onSessionEnded: users.onSessionEnded,
    rights: rights?.watch,
    verifyServiceToken: createServiceTokenVerifier(definition.name, keysOf(config), clock),
  };
  const consumers = new Consumers({
    service: definition.name,
    followers: parts.followers ?? [],
    watchers: parts.watchers ?? [],
    followSessions: users.followSessions,
    followRights: rights && (() => rights.watch.follow()),
    db: jobDb,
    feedOf: (source) =>
      source === definition.name ? ownFeed(feed!.log) : connections.get(source)!.client(FeedInternalService),
    clock,
    log,
  });
  const jobs = jobsOf(parts, { database, feed, keyRing: users.keyRing, keepHours: platform.feedHours });
  const checkStorage = () => checkDatabase(definition, options);
  const mounted = { definition, parts, authentication, database, feed, consumers, jobs, checkStorage, log };
  return new MountedService(mounted, opened.move());
}

interface MountedParts {
  definition: ServiceDefinition;
  parts: ServiceParts;
  authentication: Authentication;
  database: Database | undefined;
  feed: OwnFeed | undefined;
  consumers: Consumers;
  jobs: Job[];
  /** Resolves when the database has the schema that this code needs. */
  checkStorage(): Promise<void>;
  log: Logger;
}

/** A service's own feed, and who may read what of it. */
interface OwnFeed extends AsyncDisposable {
  log: FeedLog;
  readers: EventReaders;
}

/** A service that was mounted: waiting, then answering, until it is disposed. */
export class MountedService implements AsyncDisposable {
  readonly definition: ServiceDefinition;
  readonly parts: ServiceParts;
  readonly steps: StepsOf;
  /** Its feed as others read it; of a service with events. */
  readonly feed: ServedFeed | undefined;
  readonly #mounted: MountedParts;
  readonly #resources: AsyncDisposableStack;
  #waitingFor: string | undefined = "its start";
  #hasStorage = false;
  #jobs: AsyncDisposable | undefined;

  constructor(mounted: MountedParts, resources: AsyncDisposableStack) {
    const { definition, parts, authentication, database, feed, consumers } = mounted;
    this.#mounted = mounted;
    this.definition = definition;
    this.parts = parts;
    this.#resources = resources;
    this.feed = feed && {
      ...feed,
      // Before the service itself: two services that follow each other would wait for ever.
      isStarted: () => this.#hasStorage,
      following: () => consumers.status(),
    };
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
    const { authentication, database, feed, consumers, checkStorage, log } = this.#mounted;
    if (database) await this.#waitUntil("the database", checkStorage, signal);
    if (signal.aborted) return;
    feed?.log.begin();
    this.#hasStorage = true;
    await this.#waitUntil("the signing keys of auth", () => authentication.keyRing.refresh(), signal);
    if (signal.aborted) return;
    this.#waitingFor = "the feeds that it follows";
    await Promise.race([consumers.begin(), whenAborted(signal).catch(() => {})]);
    if (signal.aborted) return;
    this.#waitingFor = undefined;
    log.info("ready");
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
        if (tries === 0) this.#mounted.log.warn({ error }, `waiting for ${what}`);
      }
      await delay(WAIT_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Why it is not ready, or undefined. */
  async notReady(): Promise<string | undefined> {
    const { name } = this.definition;
    if (this.#waitingFor !== undefined) return `${name}: waiting for ${this.#waitingFor}`;
    try {
      await this.#mounted.database?.ping();
      return undefined;
    } catch {
      return `${name}: the database does not answer`;
    }
  }

  /** What /metrics shows of it. */
  gauges(): Gauge[] {
    const { database, consumers } = this.#mounted;
    const gauges = [...(this.parts.gauges ?? []), ...consumers.gauges()];
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
    this.#jobs = startJobs(this.#mounted.jobs, this.#mounted.log);
  }

  /** Ends it, after the runs that are under way; it follows nobody any more, and keeps no reader waiting. */
  async stopJobs(): Promise<void> {
    const { feed, consumers } = this.#mounted;
    feed?.log.drain();
    await Promise.all([this.#jobs?.[Symbol.asyncDispose](), consumers[Symbol.asyncDispose]()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopJobs();
    await this.#resources.disposeAsync();
  }
}

function openServiceDatabase({ name }: ServiceDefinition, config: ServiceValues): Database {
  const { databaseUrl: url, databasePoolSize: poolSize } = config;
  return openDatabase({ url: url!, poolSize: poolSize!, applicationName: `concierge ${name}` });
}

/** What a service does by itself is little at once: a pool as large as that of calls would stand idle. */
function openJobDatabase({ name }: ServiceDefinition, { databaseJobUrl: url }: ServiceValues): Database {
  return openDatabase({ url: url!, poolSize: JOB_POOL_SIZE, applicationName: `concierge ${name} jobs` });
}

function existing({ name }: ServiceDefinition, db: Db | undefined): Db {
  if (!db) throw new Error(`${name} has no database`);
  return db;
}

/** What the definition promises to serve is what its parts implement, and every method says who may call it. */
function checkContract(definition: ServiceDefinition, parts: ServiceParts, knowsRights: boolean): void {
  const implemented = new Set(parts.implementations.map(({ desc }) => desc));
  for (const desc of definition.services) {
    if (!implemented.has(desc)) throw new StartupError(`${definition.name} does not implement ${desc.typeName}`);
    for (const method of desc.methods) {
      const { who } = accessRule(method);
      if (who === "permission" && !knowsRights) {
        throw new StartupError(
          `${definition.name} has methods with a permission but does not name access and organization as peers`,
        );
      }
      const spendsTokens = who === "callers" && method.idempotency === IDEMPOTENCY_UNKNOWN;
      if (!spendsTokens || definition.hasDatabase) continue;
      throw new StartupError(
        `${desc.typeName}/${method.name} is not declared idempotent, so ${definition.name} needs a database to remember spent tokens`,
      );
    }
  }
}

async function checkDatabase({ name }: ServiceDefinition, { config, migrationsFolder }: MountOptions): Promise<void> {
  const { databaseUrl, databaseJobUrl: jobUrl } = config;
  await checkSchema({ runtimeUrl: databaseUrl!, jobUrl, series: ["platform", name], folder: migrationsFolder });
}

function openFeed(
  { name, events }: ServiceDefinition,
  db: Db,
  jobDb: Db | undefined,
  { config, log }: MountOptions,
): OwnFeed {
  const feed = new FeedLog({ service: name, url: config.databaseUrl!, db, jobDb, log });
  return { log: feed, readers: eventReaders(events!), [Symbol.asyncDispose]: () => feed[Symbol.asyncDispose]() };
}

interface JobParts {
  database: Database | undefined;
  feed: OwnFeed | undefined;
  keyRing: KeyRing;
  /** How long events are kept. */
  keepHours: number;
}

/** What runs of itself: the service's own jobs, and those of every service. */
function jobsOf(parts: ServiceParts, { database, feed, keyRing, keepHours }: JobParts): Job[] {
  const jobs: Job[] = [{ name: "refresh signing keys", everyMs: KEY_REFRESH_MS, run: () => keyRing.refresh() }];
  if (database) {
    jobs.push({ name: "sweep spent tokens", everyMs: SWEEP_MS, run: () => sweepSpentTokens(database.db) });
  }
  if (database && feed) jobs.push(trimFeed(database.db, keepHours));
  return [...jobs, ...(parts.jobs ?? [])];
}
