/**
 * All that one service follows of others' feeds: with effects in its database, in memory, and the sessions that end. They start
 * together, the service answers once those it waits for have caught up, and they are shown together: in metrics and to operators.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { count, eq } from "drizzle-orm";
import type { FollowingSchema } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import type { Clock } from "../clock.ts";
import type { Db } from "../db/database.ts";
import type { Logger } from "../log.ts";
import type { Gauge } from "../telemetry/metrics.ts";
import { type Follower, type RunningFollower, startFollower } from "./follower.ts";
import { type FeedReader, startLiveFollower, type Watcher } from "./live-follower.ts";
import { feedCursor, feedParked } from "./schema.ts";

export interface ConsumersOptions {
  service: string;
  followers: Follower[];
  watchers: Watcher[];
  /** Starts to follow the sessions that end, where the service has to know them. */
  followSessions: (() => Consumer) | undefined;
  /** Starts to follow what people may do, where the service has to know it. Nobody waits for that: until then it is asked. */
  followRights: (() => Consumer[]) | undefined;
  /** The service's database; touched only if there are followers. */
  db: Db | undefined;
  /** The feed of a peer. */
  feedOf(source: string): FeedReader;
  clock: Clock;
  log: Logger;
}

/** Whatever follows a feed. */
export interface Consumer extends AsyncDisposable {
  readonly source: string;
  /** Resolves when it has everything for the first time. */
  readonly caughtUp: Promise<void>;
  /** Monotonic time at which it last asked what turned out to be all; undefined before. */
  readonly freshAt: number | undefined;
}

export class Consumers implements AsyncDisposable {
  readonly #options: ConsumersOptions;
  #stored: RunningFollower[] = [];
  #inMemory: Consumer[] = [];

  constructor(options: ConsumersOptions) {
    this.#options = options;
  }

  /** Starts them; resolves when all have caught up that are awaited. */
  async begin(): Promise<void> {
    const { followers, watchers, followSessions, followRights, service, db, feedOf, clock, log } = this.#options;
    this.#stored = followers.map((follower) => {
      return startFollower({ follower, service, db: db!, client: feedOf(follower.source), clock, log });
    });
    const sessions = followSessions?.();
    const watching = watchers.map((watcher) => {
      return startLiveFollower({ ...watcher, client: feedOf(watcher.source), clock, log });
    });
    this.#inMemory = [...(sessions ? [sessions] : []), ...watching];
    const awaited = [...this.#stored.filter((_, index) => followers[index]!.isAwaited !== false), ...this.#inMemory];
    this.#inMemory.push(...(followRights?.() ?? []));
    await Promise.all(awaited.map(({ caughtUp }) => caughtUp));
  }

  get #all(): Consumer[] {
    return [...this.#stored, ...this.#inMemory];
  }

  gauges(): Gauge[] {
    const { service, followers, watchers, followSessions, followRights } = this.#options;
    const sources = new Set([...followers, ...watchers].map(sourceOf));
    if (followSessions) sources.add("auth");
    if (followRights) sources.add("access").add("organization");
    const ages = [...sources].map((source) => ({
      name: "feed_age_seconds",
      help: "Since this process last had everything of another service's feed; NaN before",
      labels: { service, source },
      read: () => this.#ageSeconds(this.#all.filter((consumer) => consumer.source === source)),
    }));
    const parked = followers.map(({ source }) => ({
      name: "feed_parked_events",
      help: "Events of another service whose effect failed again and again; more than 0 wants a look",
      labels: { service, source },
      read: () => this.#stored.find((follower) => follower.source === source)?.parked ?? 0,
    }));
    return [...ages, ...parked];
  }

  /** How far each has come, for operators. */
  async status(): Promise<MessageInitShape<typeof FollowingSchema>[]> {
    return [
      ...(await Promise.all(this.#stored.map((follower) => this.#storedStatus(follower)))),
      ...this.#inMemory.map((consumer) => ({ source: consumer.source, completeAt: this.#completeAt(consumer) })),
    ];
  }

  async #storedStatus(follower: RunningFollower): Promise<MessageInitShape<typeof FollowingSchema>> {
    const { source } = follower;
    const db = this.#options.db!;
    const [cursor] = await db.select().from(feedCursor).where(eq(feedCursor.source, source));
    const [parked] = await db.select({ count: count() }).from(feedParked).where(eq(feedParked.source, source));
    return {
      source,
      cursor: cursor && { epoch: cursor.epoch, position: cursor.position },
      parked: BigInt(parked!.count),
      completeAt: this.#completeAt(follower),
    };
  }

  #completeAt({ freshAt }: Consumer) {
    const { clock } = this.#options;
    return freshAt === undefined ? undefined : timestampFromMs(Math.round(clock.now() - (clock.monotonic() - freshAt)));
  }

  /** Of the one that is furthest behind. */
  #ageSeconds(consumers: Consumer[]): number {
    const now = this.#options.clock.monotonic();
    const ages = consumers.map(({ freshAt }) => (freshAt === undefined ? Number.NaN : (now - freshAt) / 1000));
    return ages.length === 0 ? Number.NaN : Math.max(...ages);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#all.map((consumer) => consumer[Symbol.asyncDispose]()));
  }
}

function sourceOf({ source }: { source: string }): string {
  return source;
}
