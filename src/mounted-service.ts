/**
 * A service that was mounted: it waits until the schema is verified, the signing keys are there and, for a moment, until the feeds
 * that it follows are read; then it answers, until it is disposed. What it does by itself is started and ended by whoever holds it.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Database } from "./db/database.ts";
import { StartupError } from "./errors.ts";
import type { Consumers } from "./feed/consumers.ts";
import type { ServedFeed } from "./feed/handlers.ts";
import type { FeedLog } from "./feed/log.ts";
import type { EventReaders } from "./feed/readers.ts";
import { type Job, startJobs } from "./jobs.ts";
import type { ServiceRelay } from "./kafka/service-relay.ts";
import type { Logger } from "./log.ts";
import type { ServiceRights } from "./rights.ts";
import { type Side, sideOf } from "./rpc/access.ts";
import type { Authentication } from "./rpc/authenticate.ts";
import type { Served } from "./rpc/routes.ts";
import type { StepsOf } from "./rpc/steps.ts";
import { whenAborted } from "./rpc/until-aborted.ts";
import type { ServiceDefinition, ServiceParts } from "./service.ts";
import type { Gauge } from "./telemetry/metrics.ts";
import { TOLERANCE_SECONDS } from "./token/compact.ts";
import { spendToken } from "./token/spent-tokens.ts";

const WAIT_MS = 250;
/**
 * The longest that it waits for feeds. Where a peer is reached only once that is ready, behind a balancer, services that follow each
 * other would wait for ever; and what is not known from a feed yet is what is not known while a peer is away: it is asked.
 */
const CATCH_UP_MS = 2_000;

export interface MountedParts {
  definition: ServiceDefinition;
  parts: ServiceParts;
  authentication: Authentication;
  rights: Pick<ServiceRights, "gauges">;
  database: Database | undefined;
  feed: OwnFeed | undefined;
  consumers: Consumers;
  relay: ServiceRelay | undefined;
  jobs: Job[];
  /** Resolves when the database has the schema that this code needs. */
  checkStorage(): Promise<void>;
  log: Logger;
}

/** A service's own feed, and who may read what of it. */
export interface OwnFeed extends AsyncDisposable {
  log: FeedLog;
  readers: EventReaders;
}

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
  #isClockWrong = false;
  #jobs: AsyncDisposable | undefined;

  constructor(mounted: MountedParts, resources: AsyncDisposableStack) {
    const { definition, parts, authentication, database, feed, consumers, relay } = mounted;
    this.#mounted = mounted;
    this.definition = definition;
    this.parts = parts;
    this.#resources = resources;
    this.feed = feed && {
      ...feed,
      // Before the service itself: two services that follow each other would wait for ever.
      isStarted: () => this.#hasStorage,
      following: async () => [...(await consumers.status()), ...(relay ? [await relay.status()] : [])],
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
    const caughtUp = consumers.begin().then(() => true);
    const given = AbortSignal.any([signal, AbortSignal.timeout(CATCH_UP_MS)]);
    const hasCaughtUp = await Promise.race([caughtUp, whenAborted(given).catch(() => false)]);
    if (signal.aborted) return;
    if (!hasCaughtUp) log.warn("answers before it has caught up with all feeds: what they would tell, it asks");
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
      return this.#wrongClock((await this.#mounted.database?.ping()) ?? 0);
    } catch {
      return `${name}: the database does not answer`;
    }
  }

  /** Nobody takes the tokens of a process whose clock is wrong, and it takes nobody's; its database has the right time for us. */
  #wrongClock(aheadMs: number): string | undefined {
    const { definition, log } = this.#mounted;
    const wasWrong = this.#isClockWrong;
    this.#isClockWrong = Math.abs(aheadMs) > TOLERANCE_SECONDS * 1_000;
    const seconds = (Math.abs(aheadMs) / 1_000).toFixed(1);
    const difference = `the database's clock is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} ours`;
    // Once per outage.
    if (this.#isClockWrong && !wasWrong) log.warn(`${difference}: let NTP set the clocks of both machines`);
    return this.#isClockWrong ? `${definition.name}: ${difference}` : undefined;
  }

  /** What does not work as it should, though calls are answered; undefined when all does. */
  degraded(): string | undefined {
    const problem = this.#mounted.relay?.problem();
    return problem && `${this.definition.name}: events are not published: waiting for ${problem}`;
  }

  /** What /metrics shows of it. */
  gauges(): Gauge[] {
    const { rights, database, consumers, relay } = this.#mounted;
    const service = this.definition.name;
    const gauges = [
      ...(this.parts.gauges ?? []),
      ...rights.gauges(),
      ...consumers.gauges(),
      ...(relay?.gauges() ?? []),
    ];
    if (!database) return gauges;
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
    const outOfResources: Gauge = {
      kind: "counter",
      name: "db_out_of_resources_total",
      help: "Statements and transactions that the database server had no disk space or memory for",
      labels: { service },
      read: () => database.outOfResources(),
    };
    return [...gauges, ...connections, waiting, outOfResources];
  }

  /** Starts what the service does by itself. */
  startJobs(): void {
    const { jobs, relay, log } = this.#mounted;
    this.#jobs = startJobs(jobs, log);
    relay?.start();
  }

  /** Ends it, after the runs that are under way; it follows nobody any more, and keeps no reader waiting. */
  async stopJobs(): Promise<void> {
    const { feed, consumers, relay } = this.#mounted;
    feed?.log.drain();
    await Promise.all([this.#jobs, consumers, relay].map((work) => work?.[Symbol.asyncDispose]()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopJobs();
    await this.#resources.disposeAsync();
  }
}
