/** What `make prove/kafka` finds in the topic, held to the outbox: whatever is there was committed, and all of it is there. */
import { randomUUID } from "node:crypto";
import { Admin, Consumer, ListOffsetTimestamps } from "@platformatic/kafka";
import type { Sql } from "postgres";
import type { Goals } from "./figures.ts";

interface TopicRecord {
  id: string;
  subject: string;
  version: number;
  /** The value as it came. */
  text: string;
}

const connectionTo = (broker: string) => ({ clientId: "prove", bootstrapBrokers: [broker] });

export async function makeTopic(broker: string, topic: string, partitions: number): Promise<void> {
  const admin = new Admin(connectionTo(broker));
  await admin.createTopics({ topics: [topic], partitions, replicas: 1 });
  await admin.close();
}

/** Everything in the topic, each partition in its order. */
export async function readTopic(broker: string, topic: string, partitions: number): Promise<TopicRecord[]> {
  const admin = new Admin(connectionTo(broker));
  const asked = Array.from({ length: partitions }, (_, partitionIndex) => {
    return { partitionIndex, timestamp: ListOffsetTimestamps.LATEST };
  });
  const [ends] = await admin.listOffsets({ topics: [{ name: topic, partitions: asked }] });
  await admin.close();
  const total = ends!.partitions.reduce((sum, { offset }) => sum + Number(offset), 0);
  const records: TopicRecord[] = [];
  if (total === 0) return records;
  const consumer = new Consumer({ ...connectionTo(broker), groupId: randomUUID(), maxWaitTime: 100 });
  const stream = await consumer.consume({ topics: [topic], mode: "earliest", autocommit: false });
  for await (const { value } of stream) {
    const text = value.toString();
    const { id, subject, version } = JSON.parse(text) as Omit<TopicRecord, "text">;
    records.push({ id, subject, version, text });
    if (records.length === total) break;
  }
  await consumer.close(true);
  return records;
}

export async function judgeTopic(goals: Goals, sql: Sql, service: string, records: TopicRecord[]): Promise<void> {
  const rows = await sql<{ id: string }[]>`select ${service} || '/' || id as id from feed_outbox`;
  const committed = new Set(rows.map(({ id }) => id));
  const firsts = new Map<string, TopicRecord>();
  let changed = 0;
  for (const record of records) {
    const first = firsts.get(record.id);
    if (!first) firsts.set(record.id, record);
    else if (first.text !== record.text) changed++;
  }
  goals.info(
    `${committed.size} events committed, ${records.length} records, ${records.length - firsts.size} came again`,
  );
  goals.atMost("R-OBX-01 events lost", [...committed].filter((id) => !firsts.has(id)).length, 0);
  goals.atMost(
    "R-OBX-10 events that were never committed",
    [...firsts.keys()].filter((id) => !committed.has(id)).length,
    0,
  );
  goals.atMost("R-OBX-05 first appearances out of order in their subjects", countReordered([...firsts.values()]), 0);
  goals.atMost("R-OBX-02 events that came again otherwise", changed, 0);
}

/** In the order given, each subject's versions are 1, 2, 3. */
function countReordered(records: readonly TopicRecord[]): number {
  const versions = new Map<string, number>();
  return records.filter(({ subject, version }) => {
    const expected = (versions.get(subject) ?? 0) + 1;
    versions.set(subject, version);
    return version !== expected;
  }).length;
}
