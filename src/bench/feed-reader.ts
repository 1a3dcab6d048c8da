/** Worker: readers of a feed that note when each event came to the last of them, by subject. */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type Cursor, FeedInternalService, Start } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { openDatabase } from "../db/database.ts";
import { FeedLog, type Place } from "../feed/log.ts";
import { createLogger } from "../log.ts";
import { answerCommands } from "../prove/workers.ts";
import { EVENT_TYPE, machineMs, SERVICE } from "./feed-database.ts";

/** When an event came to the last reader, and to how many it came. */
type Arrival = [subject: string, lastAtMs: number, readers: number];

/** Since the last time. */
export interface Arrivals {
  arrivals: Arrival[];
  /** By RPC. */
  reads: number;
  failures: number;
}

interface RpcReaders {
  url: string;
  key: ServiceKey;
  readers: number;
  connections: number;
}

const MAX_WAIT_MS = 1_000;
const LIMIT = 500;

const log = createLogger({ level: "warn", mode: "production", clock });
const arrivals = new Map<string, Arrival>();
let reads = 0;
let failures = 0;

function note(events: readonly { subject: string }[]): void {
  const at = machineMs();
  for (const { subject } of events) {
    const arrival = arrivals.get(subject);
    if (arrival) {
      arrival[1] = at;
      arrival[2]++;
    } else {
      arrivals.set(subject, [subject, at, 1]);
    }
  }
}

/** Reads until this process ends. */
async function readLog(feed: FeedLog, from: Place): Promise<void> {
  const query = {
    types: new Set([EVENT_TYPE]),
    maxWaitMs: MAX_WAIT_MS,
    limit: LIMIT,
    signal: new AbortController().signal,
  };
  for (let place = from; ; ) {
    try {
      const { events, next } = await feed.read({ ...query, from: place });
      note(events);
      place = next;
    } catch {
      failures++;
    }
  }
}

/** Asks again until this process ends, as a follower does. */
async function readRpc(client: ReturnType<typeof clientOf>, from: Cursor): Promise<void> {
  for (let cursor = from; ; ) {
    const maxWait = durationFromMs(MAX_WAIT_MS);
    try {
      const request = { service: SERVICE, from: { case: "cursor" as const, value: cursor }, maxWait };
      const { events, next } = await client.read(request);
      note(events);
      reads++;
      cursor = next!;
    } catch {
      failures++;
    }
  }
}

function clientOf(url: string, key: ServiceKey) {
  return connectService({ baseUrl: url, key, clock }).client(FeedInternalService);
}

answerCommands({
  /** One reader, in a process that looks at the database itself. */
  async followLog({ url }: { url: string }) {
    const { db } = openDatabase({ url, poolSize: 2, applicationName: "bench" });
    const feed = new FeedLog({ service: SERVICE, url, db, log });
    feed.begin();
    const signal = AbortSignal.timeout(10_000);
    const newest = { from: "newest", types: new Set([EVENT_TYPE]), maxWaitMs: 0, limit: 1, signal } as const;
    void readLog(feed, (await feed.read(newest)).next);
  },
  /** Readers that wait at a server, all from now on. */
  async followRpc({ url, key, readers, connections }: RpcReaders) {
    const clients = Array.from({ length: connections }, () => clientOf(url, key));
    const { next } = await clients[0]!.read({ service: SERVICE, from: { case: "start", value: Start.NEWEST } });
    for (let index = 0; index < readers; index++) void readRpc(clients[index % connections]!, next!);
  },
  /** What came since the last time that this was asked. */
  arrivals() {
    const taken: Arrivals = { arrivals: [...arrivals.values()], reads, failures };
    arrivals.clear();
    reads = 0;
    failures = 0;
    return taken;
  },
});
