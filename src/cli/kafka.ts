/** `concierge kafka`: makes the topics that services publish to, and prints what comes to them. Configured as the services are. */
import { randomUUID } from "node:crypto";
import { ExitCode, StartupError } from "../errors.ts";
import { createTopics } from "../kafka/admin.ts";
import { connectionOptions } from "../kafka/connection.ts";
import { consumeEvents } from "../kafka/consumer.ts";
import { topicsOf } from "../kafka/topics.ts";
import { services } from "../services.ts";
import { configurationOf } from "./configuration.ts";
import type { Host } from "./host.ts";

const MAX_COUNT = 1_000;

export interface TopicsSettings {
  partitions: string;
  replication: string;
}

/** Makes those that are missing, and leaves the others as they are. */
export async function makeTopics(host: Host, { partitions, replication }: TopicsSettings): Promise<void> {
  const { platform } = configurationOf(host.env, []);
  const counts = { partitions: countOf("--partitions", partitions), replicas: countOf("--replication", replication) };
  const made = await createTopics(platform, topicsOf(services, platform.kafkaTopicPrefix), counts);
  for (const topic of made) host.print(`made ${topic}\n`);
  if (made.length === 0) host.print("every topic is there\n");
}

export interface ConsumeSettings {
  /** Names without the prefix; all topics when not given. */
  topic?: string[];
  from: string;
  group?: string;
}

/** Prints events, one line of JSON each, until the host stops. It is the operator's tool: personal data is printed as it is. */
export async function tailTopics(host: Host, { topic, from, group }: ConsumeSettings): Promise<void> {
  if (from !== "oldest" && from !== "newest") throw new StartupError("--from is newest or oldest", ExitCode.usage);
  const { platform } = configurationOf(host.env, []);
  const { kafkaTopicPrefix: prefix } = platform;
  await consumeEvents({
    connection: connectionOptions("concierge-command", platform),
    group: group ?? `concierge-tail-${randomUUID()}`,
    topics: topic?.map((name) => `${prefix}${name}`) ?? topicsOf(services, prefix),
    from,
    onEvent: (event, name) => host.print(`${JSON.stringify({ topic: name, ...event })}\n`),
    onUnreadable({ topic: name, partition, offset, reason }) {
      host.warn(`${name}, partition ${partition}, offset ${offset}: ${reason}\n`);
    },
    signal: host.stop,
  });
}

function countOf(option: string, text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= 1 && count <= MAX_COUNT) return count;
  throw new StartupError(`${option} is a number from 1 to ${MAX_COUNT}`, ExitCode.usage);
}
