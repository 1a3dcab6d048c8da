/**
 * Reads events from topics as everybody should: each one is handed over once and in the order of its subject, what comes again is
 * passed over, and what is no event of ours is put aside with a reason, so that it holds up nothing behind it.
 */
import type { BaseOptions, Message } from "@platformatic/kafka";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { loadKafka } from "./connection.ts";

/** The value of a record; `payload` is the event's message in proto3 JSON. */
export type ReceivedEvent = z.output<typeof envelope>;

export interface ConsumerOptions {
  connection: BaseOptions;
  /** Consumers of one group share the partitions, and the offsets that they commit. */
  group: string;
  topics: string[];
  /** Where a group begins that has committed nothing. */
  from: "oldest" | "newest";
  /** Has done what is to be done when it resolves. */
  onEvent(event: ReceivedEvent, topic: string): Promise<void> | void;
  /** Takes what cannot be read: where it is, and why. */
  onUnreadable(record: { topic: string; partition: number; offset: bigint; reason: string }): Promise<void> | void;
  /** Ends it. */
  signal: AbortSignal;
}

const MAX_VALUE_BYTES = 1024 * 1024;
/** Of this process. Who must do things once for ever stores the version beside the effect, in one transaction. */
const SUBJECTS_REMEMBERED = 100_000;
const FETCH_WAIT_MS = 250;

const envelope = z.object({
  id: z.string().regex(/^[a-z-]+\/\d+$/),
  type: z.string().regex(/^concierge\.[a-z_]+\.v1\.[A-Za-z]+$/),
  subject: z.string().min(1).max(1_000),
  version: z.int().min(1),
  time: z.iso.datetime(),
  payload: z.record(z.string(), z.unknown()),
});

/** Consumes until the signal aborts. Throws what keeps it from that. */
export async function consumeEvents(options: ConsumerOptions): Promise<void> {
  const { connection, group, topics, from, signal } = options;
  const { Consumer } = await loadKafka();
  const consumer = new Consumer({ ...connection, groupId: group, maxWaitTime: FETCH_WAIT_MS });
  const fallbackMode = from === "oldest" ? "earliest" : "latest";
  try {
    const stream = await consumer.consume({ topics, mode: "committed", fallbackMode, autocommit: false });
    const end = () => void stream.close();
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
    const versions = new LRUCache<string, { epoch: string; version: number }>({ max: SUBJECTS_REMEMBERED });
    for await (const message of stream) {
      await take(message, versions, options);
      await message.commit();
    }
  } finally {
    await consumer.close(true);
  }
}

type Versions = LRUCache<string, { epoch: string; version: number }>;

async function take(message: Message, versions: Versions, { onEvent, onUnreadable }: ConsumerOptions): Promise<void> {
  const { topic, partition, offset } = message;
  const read = readEvent(message);
  if ("reason" in read) return onUnreadable({ topic, partition, offset, reason: read.reason });
  const { event, epoch } = read;
  const key = `${topic} ${event.subject}`;
  const last = versions.get(key);
  // Another epoch is another life of the feed, after a restore: versions may begin anew.
  if (last?.epoch === epoch && event.version <= last.version) return;
  await onEvent(event, topic);
  versions.set(key, { epoch, version: event.version });
}

/** The event in a record, or why there is none: fixed words, nothing of the record. */
export function readEvent({
  key,
  value,
  headers,
}: Pick<Message, "key" | "value" | "headers">): { event: ReceivedEvent; epoch: string } | { reason: string } {
  const named = new Map([...headers].map(([name, content]) => [String(name), String(content)]));
  if (!value || value.length > MAX_VALUE_BYTES) return { reason: "too large, or empty" };
  let json: unknown;
  try {
    json = JSON.parse(value.toString());
  } catch {
    return { reason: "no JSON" };
  }
  const parsed = envelope.safeParse(json);
  if (!parsed.success) return { reason: "no event of a known form" };
  const { id, type, subject } = parsed.data;
  const isConsistent =
    named.get("event-id") === id && String(key) === subject && type.split(".")[1] === id.split("/")[0];
  if (!isConsistent) return { reason: "its id, key and type do not belong together" };
  return { event: parsed.data, epoch: named.get("epoch") ?? "" };
}
