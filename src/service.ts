/**
 * What a service is: its name, its variables, what it serves, whom it calls, what it does by itself. A definition says it,
 * server.ts runs it, and the same definition runs alone in production and beside the others in development and in tests.
 */
import type { DescFile, DescMessage, DescService } from "@bufbuild/protobuf";
import type { Client, ServiceImpl } from "@connectrpc/connect";
import { z } from "zod";
import type { Clock } from "./clock.ts";
import { type ConfigShape, type Mode, peerUrl, secret, setting, type ValuesOf } from "./config.ts";
import type { Db } from "./db/database.ts";
import type { Follower } from "./feed/follower.ts";
import type { Watcher } from "./feed/live-follower.ts";
import type { FeedLog } from "./feed/log.ts";
import type { Job } from "./jobs.ts";
import type { RequestHandler } from "./listener/listener.ts";
import type { Logger } from "./log.ts";
import type { LoadRights } from "./rights/rights-cache.ts";
import type { RightsWatch } from "./rights/rights-watch.ts";
import type { RestRoute } from "./rpc/rest.ts";
import type { Gauge } from "./telemetry/metrics.ts";
import type { Tracing } from "./telemetry/traces.ts";
import type { Users } from "./users.ts";

/** The variables of a service that stores something. */
export const databaseConfig = {
  databaseUrl: secret.databaseUrl("PostgreSQL URL of the run-time role, which owns nothing"),
  databaseOwnerUrl: secret.databaseUrl("PostgreSQL URL of the owner role; only `concierge migrate` uses it", {
    optional: true,
  }),
  databasePoolSize: setting(z.coerce.number().int().min(1).max(200).default(10), "Most connections to the database"),
};

/** The variables of a service that stores rows of many organizations, which row-level security keeps apart. */
export const tenantDatabaseConfig = {
  ...databaseConfig,
  databaseJobUrl: secret.databaseUrl("PostgreSQL URL of the job role, which owns nothing and sees every organization"),
};

/** The variables of a service that calls others or is called by them. */
export const serviceKeysConfig = {
  serviceKeys: secret.serviceKeys("HMAC keys of the pairs that this service is part of, made by `concierge keys`"),
};

/** A service's values as the platform sees them: it reads these itself, and hands all of them to the service. */
export type ServiceValues = Partial<ValuesOf<typeof tenantDatabaseConfig & typeof serviceKeysConfig>> &
  Record<string, unknown>;

/** The variable of a service that people call, or that asks about accounts. */
export const authPeerConfig = {
  authUrl: peerUrl("URL of auth's internal listener", { default: "http://127.0.0.1:50051" }),
};

/** The variables of a service that asks what people may do. */
export const rightsPeersConfig = {
  accessUrl: peerUrl("URL of access's internal listener", { default: "http://127.0.0.1:50052" }),
  organizationUrl: peerUrl("URL of organization's internal listener", { default: "http://127.0.0.1:50053" }),
};

/** Services to call, by name, each with the internal API to call. */
export type Peers = Record<string, DescService>;

/** What the code of a service works with. */
export interface ServiceContext<Shape extends ConfigShape = ConfigShape, P extends Peers = Peers> {
  mode: Mode;
  /** Issuer of access tokens. */
  issuer: string;
  config: ValuesOf<Shape>;
  clock: Clock;
  log: Logger;
  /** Of a service without a database, touching it is a fault. */
  db: Db;
  /**
   * For what it does by itself, as followers do it, too: sees the rows of all organizations. Where there are none, the
   * same as `db`.
   */
  jobDb: Db;
  /** Its own feed. Of a service without events, touching it is a fault. */
  feed: FeedLog;
  /** What people may do. Of a service that does not name access and organization as peers, touching it is a fault. */
  rights: RightsWatch;
  clients: { [Name in keyof P]: Client<P[Name]> };
  /** For work that was stored with the trace it belongs to; calls have theirs already. */
  tracing: Pick<Tracing, "resume">;
}

/** One proto service with its implementation. */
export interface Implementation {
  desc: DescService;
  implementation: ServiceImpl<DescService>;
}

/** Pairs a proto service with all of its methods: a new rpc does not compile until it is implemented. */
export function implement<Desc extends DescService>(desc: Desc, implementation: ServiceImpl<Desc>): Implementation {
  return { desc, implementation: implementation as ServiceImpl<DescService> };
}

/** What runs once a service's parts are there. */
export interface ServiceParts {
  implementations: Implementation[];
  jobs?: Job[];
  /** What it does on others' events, in its database. */
  followers?: Follower[];
  /** What it watches of others' events in memory, in each process for itself. */
  watchers?: Watcher[];
  /** Plain HTTP paths, served on both listeners. */
  plain?: Record<string, RequestHandler>;
  /** The same, served on the internal listener only, to whoever reaches it. */
  internalPlain?: Record<string, RequestHandler>;
  /** Plain HTTP in front of some of its internal methods, on a port of its own; not set: the usual one. */
  rest?: { port: number | undefined; routes: RestRoute[] };
  /** What /metrics shows of it beside what it shows of every service. */
  gauges?: Gauge[];
  /** How user tokens are checked, where it is not by asking auth: auth's own way. */
  users?: Users;
  /** How rights are decided, where it is not by asking access: access's own way. */
  loadRights?: LoadRights;
  /** Stops what the parts started, after the jobs have ended. */
  stop?(): Promise<void>;
}

export interface ServiceDefinition<Shape extends ConfigShape = ConfigShape, P extends Peers = Peers> {
  /** Also the name of its folder, database, proto package and command argument. */
  name: string;
  /** Ports when it runs alone. A service without a public API still has an operations port inside. */
  ports: { public: number; internal: number };
  config: Shape;
  /** What it serves. */
  services: DescService[];
  /** What it publishes: its <name>_events.proto. */
  events?: DescFile;
  /** Events that also have a Kafka topic of their own, each with its name. */
  topics?: readonly (readonly [DescMessage, string])[];
  /** Whom it calls; the URL of peer `auth` is the variable `authUrl`. */
  peers: P;
  start(context: ServiceContext<Shape, P>): ServiceParts | Promise<ServiceParts>;
  /**
   * Takes back what may have been revoked since the time to which its database was restored, with the owner's role, while no
   * process of it runs; may be done again. Any variable may be missing. Returns what it did, a line each. Throws StartupError.
   */
  afterLoss?(db: Db, config: Partial<ValuesOf<Shape>>): Promise<string[]>;
  /** Whether it stores something, which its variables say. */
  hasDatabase: boolean;
  /** Whether it stores rows of many organizations, which its variables say, too. */
  hasTenants: boolean;
}

/** Takes down a definition; what it says is run by startServer(). */
export function defineService<Shape extends ConfigShape, P extends Peers>(
  definition: Omit<ServiceDefinition<Shape, P>, "hasDatabase" | "hasTenants">,
): ServiceDefinition<Shape, P> {
  const { config } = definition;
  return { ...definition, hasDatabase: "databaseUrl" in config, hasTenants: "databaseJobUrl" in config };
}
