/** What the tests of the relay have: a broker, a database with a feed, relays over it, and what came to topics. */
import { randomUUID } from "node:crypto";
import { Admin, Consumer, type Message } from "@platformatic/kafka";
import { UserUpdatedSchema } from "../../gen/concierge/user/v1/user_events_pb.ts";
import { systemClock } from "../../src/clock.ts";
import { openDatabase, transaction } from "../../src/db/database.ts";
import { emit, event, type OutboxEvent } from "../../src/feed/emit.ts";
import { FeedLog } from "../../src/feed/log.ts";
import { openPublisher } from "../../src/kafka/publisher.ts";
import { recordMaker } from "../../src/kafka/records.ts";
import { KafkaRelay, type RelayOptions } from "../../src/kafka/relay.ts";
import { routesOf } from "../../src/kafka/topics.ts";
import { createLogger } from "../../src/log.ts";
import { user } from "../../src/services/user/service.ts";
import { testDatabase } from "../../src/testing/cluster.ts";

/** A record as it came, with what the value says. */
export interface Seen {
  topic: string;
  partition: number;
  key: string;
  headers: Record<string, string>;
  value: { id: string; type: string; subject: string; version: number; time: string; payload: Record<string, unknown> };
}

export const connectionTo = (broker: string) => ({
  clientId: "test",
  bootstrapBrokers: [broker],
  connectTimeout: 2_000,
  requestTimeout: 5_000,
});

/** An event of user about somebody. */
export function renamed(person: string, firstName: string): OutboxEvent {
  return event(UserUpdatedSchema, `user/${person}`, { userId: person, firstName });
}

/** A feed of user's in a database of its own, with topics of its own. */
export async function openFeed(broker: string, opened: AsyncDisposableStack) {
  const database = opened.use(await testDatabase());
  const db = opened.use(openDatabase({ url: database.runtimeUrl, poolSize: 10, applicationName: "relay-test" })).db;
  const logLines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void logLines.push(JSON.parse(line)) };
  const log = createLogger({ level: "debug", mode: "development", destination });
  const feed = opened.use(new FeedLog({ service: "user", url: database.runtimeUrl, db, log }));
  feed.begin();
  const prefix = `t${randomUUID().slice(0, 8)}.`;
  const recordsOf = recordMaker(user.events!, routesOf(user, prefix)!);
  return {
    ...{ database, db, logLines, prefix, topic: `${prefix}user.events` },
    publish: (events: OutboxEvent[]) => transaction(db, (tx) => emit(tx, events)),
    /** Another process's relay, as it were. */
    relay(options: Partial<RelayOptions> = {}): KafkaRelay {
      const relay = new KafkaRelay({
        ...{ db, feed, recordsOf, log, clock: systemClock },
        openPublisher: () => openPublisher(connectionTo(broker)),
        ...options,
      });
      opened.use(relay);
      relay.start();
      return relay;
    },
  };
}

export async function makeTopics(
  broker: string,
  topics: string[],
  configs: Record<string, string> = {},
): Promise<void> {
  const admin = new Admin(connectionTo(broker));
  const settings = Object.entries(configs).map(([name, value]) => ({ name, value }));
  await admin.createTopics({ topics, partitions: 3, replicas: 1, configs: settings });
  await admin.close();
}

/** Everything in the topic from its beginning, as it comes. */
export async function watchTopic(broker: string, topic: string, opened: AsyncDisposableStack): Promise<Seen[]> {
  const consumer = new Consumer({ ...connectionTo(broker), groupId: randomUUID(), maxWaitTime: 100 });
  const stream = await consumer.consume({ topics: [topic], mode: "earliest", autocommit: false });
  const seen: Seen[] = [];
  stream.on("data", (message) => void seen.push(unpack(message)));
  // A broker that is killed is no failure of the test.
  stream.on("error", () => {});
  opened.defer(() => consumer.close(true));
  return seen;
}

function unpack({ topic, partition, key, value, headers }: Message<Buffer, Buffer, Buffer, Buffer>): Seen {
  const named = [...headers].map(([name, content]) => [String(name), String(content)]);
  return { topic, partition, key: String(key), headers: Object.fromEntries(named), value: JSON.parse(String(value)) };
}

/** Records whose version is not the next of their subject, leaving out those that came again. */
export function reordered(seen: readonly Seen[]): Seen[] {
  const versions = new Map<string, number>();
  return seen.filter(({ value: { subject, version } }) => {
    const last = versions.get(subject) ?? 0;
    if (version <= last) return false;
    versions.set(subject, version);
    return version !== last + 1;
  });
}

export function idsOf(seen: readonly Seen[]): Set<string> {
  return new Set(seen.map(({ value }) => value.id));
}
