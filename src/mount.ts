/**
 * Makes one service inside a process: its database, its connections to others, its way to know callers, and the parts that
 * its definition started. What it is from then on: mounted-service.ts.
 */
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { FeedInternalService } from "../gen/concierge/feed/v1/feed_service_pb.ts";
import type { PlatformConfig } from "./config.ts";
import { type Database, type Db, openDatabase } from "./db/database.ts";
import { checkSchema } from "./db/migrate.ts";
import { StartupError } from "./errors.ts";
import { Consumers } from "./feed/consumers.ts";
import { ownFeed } from "./feed/handlers.ts";
import { FeedLog } from "./feed/log.ts";
import { eventReaders } from "./feed/readers.ts";
import { trimFeed } from "./feed/retention.ts";
import type { Job } from "./jobs.ts";
import { relayOf } from "./kafka/service-relay.ts";
import type { Logger } from "./log.ts";
import { MountedService, type OwnFeed } from "./mounted-service.ts";
import { clientsOf, connectPeers, keysOf, type PeerOptions } from "./peers.ts";
import type { Redis } from "./redis.ts";
import { rightsOf } from "./rights.ts";
import { accessRule } from "./rpc/access.ts";
import type { ServiceDefinition, ServiceParts, ServiceValues } from "./service.ts";
import type { Tracing } from "./telemetry/traces.ts";
import { createAccessTokenVerifier } from "./token/access-token.ts";
import type { KeyRing } from "./token/key-ring.ts";
import { createServiceTokenVerifier } from "./token/service-token.ts";
import { sweepSpentTokens } from "./token/spent-tokens.ts";
import { type Users, usersOfAuth } from "./users.ts";

const { IDEMPOTENCY_UNKNOWN } = MethodOptions_IdempotencyLevel;
const KEY_REFRESH_MS = 60_000;
const SWEEP_MS = 60_000;
const JOB_POOL_SIZE = 3;

export interface MountOptions extends PeerOptions {
  platform: PlatformConfig;
  migrationsFolder: string;
  log: Logger;
  tracing: Pick<Tracing, "resume">;
  /** By which processes share what people may do. */
  redis?: Redis;
  /** Called for each call of a person that went on although nobody could tell whether the session lives, or what the person may do. */
  onStale?(): void;
}

/** Makes the parts of one service. Nothing is reached yet; begin() waits for what must be there. */
export async function mountService(definition: ServiceDefinition, options: MountOptions): Promise<MountedService> {
  const { platform, config, clock, tracing } = options;
  const log = options.log.child({ service: definition.name });
  await using opened = new AsyncDisposableStack();
  const database = definition.hasDatabase ? opened.use(openServiceDatabase(definition, config)) : undefined;
  const jobDatabase = definition.hasTenants ? opened.use(openJobDatabase(definition, config)) : undefined;
  const jobDb = (jobDatabase ?? database)?.db;
  const feed =
    definition.events && opened.use(openFeed(definition, database!.db, jobDatabase?.db, { ...options, log }));
  const connections = connectPeers(definition, options, opened);
  const rights = rightsOf(definition, connections, { ...options, log, feed: feed?.log, keys: keysOf(config) });
  const parts = await definition.start({
    mode: platform.mode,
    issuer: platform.issuer,
    config,
    clock,
    log,
    tracing,
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
      if (!rights.follow) throw new Error(`${definition.name} does not ask what people may do`);
      return rights.watch;
    },
    clients: clientsOf(definition, connections),
  });
  opened.defer(async () => parts.stop?.());
  if (parts.loadRights) rights.decideBy(parts.loadRights);
  checkContract(definition, parts, rights.isDecided);
  const users: Users =
    parts.users ?? usersOfAuth(definition, connections, { ...options, allowStale: platform.allowStale, log });
  const authentication = {
    mode: platform.mode,
    verifyAccessToken: createAccessTokenVerifier(users.keyRing, { issuer: platform.issuer, clock }),
    keyRing: users.keyRing,
    checkSession: users.checkSession,
    onSessionEnded: users.onSessionEnded,
    rights: rights.watch,
    verifyServiceToken: createServiceTokenVerifier(definition.name, keysOf(config), clock),
  };
  const consumers = new Consumers({
    service: definition.name,
    followers: parts.followers ?? [],
    watchers: parts.watchers ?? [],
    followSessions: users.followSessions,
    followRights: rights.follow,
    db: jobDb,
    feedOf: (source) =>
      source === definition.name ? ownFeed(feed!.log) : connections.get(source)!.client(FeedInternalService),
    clock,
    log,
  });
  const relay = feed && relayOf(definition, { platform, db: jobDb!, feed: feed.log, clock, log });
  const jobs = jobsOf(parts, { database, feed, keyRing: users.keyRing, keepHours: platform.feedHours });
  const checkStorage = () => checkDatabase(definition, options);
  const mounted = {
    definition,
    parts,
    authentication,
    rights,
    database,
    feed,
    consumers,
    relay,
    jobs,
    checkStorage,
    log,
  };
  return new MountedService(mounted, opened.move());
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

async function checkDatabase({ name }: ServiceDefinition, options: MountOptions): Promise<void> {
  const { databaseUrl, databaseJobUrl: jobUrl } = options.config;
  const schema = { series: ["platform", name], folder: options.migrationsFolder };
  const ahead = await checkSchema({ runtimeUrl: databaseUrl!, jobUrl, ...schema });
  if (ahead.length > 0) options.log.warn({ service: name, migrations: ahead }, "the database is ahead by expansions");
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
