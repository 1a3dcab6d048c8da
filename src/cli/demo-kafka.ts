/** The demo's part of Kafka, where brokers are configured: topics of its own, and a consumer in a process of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { createTopics, deleteTopics } from "../kafka/admin.ts";
import type { ReceivedEvent } from "../kafka/consumer.ts";
import { topicsOf } from "../kafka/topics.ts";
import { services } from "../services.ts";
import { configurationOf } from "./configuration.ts";
import type { Host } from "./host.ts";

export interface DemoKafka {
  /** Of every process of the demo. */
  variables: Record<string, string>;
  /** Resolves to the event of a new artist, once the consumer has read it. */
  artistCreated(userId: string): Promise<ReceivedEvent>;
}

const PARTITIONS = 3;

/** Undefined without brokers. Topics and consumer go with the scope. */
export async function openDemoKafka(
  host: Host,
  prefix: string,
  opened: AsyncDisposableStack,
): Promise<DemoKafka | undefined> {
  if (!host.env.CONCIERGE_KAFKA_BROKERS) return undefined;
  const given = Object.entries(host.env).filter(([name]) => name.startsWith("CONCIERGE_KAFKA_"));
  const variables: Record<string, string> = {
    ...(Object.fromEntries(given) as Record<string, string>),
    CONCIERGE_KAFKA_TOPIC_PREFIX: prefix,
    CONCIERGE_MODE: "development",
  };
  const { platform } = configurationOf(variables, []);
  const topics = topicsOf(services, prefix);
  await createTopics(platform, topics, { partitions: PARTITIONS, replicas: 1 });
  opened.defer(() => deleteTopics(platform, topics));
  const args = [host.mainFile, "kafka", "consume", "--topic", "artist.created", "--from", "oldest"];
  const consumer = spawn(host.node, args, { env: variables, stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(consumer, "exit");
  opened.defer(async () => {
    consumer.kill();
    await exited;
  });
  const lines = createInterface({ input: consumer.stdout });
  return {
    variables,
    async artistCreated(userId) {
      for await (const line of lines) {
        const event = JSON.parse(line) as ReceivedEvent;
        if (event.payload.userId === userId) return event;
      }
      throw new Error("the consumer has ended");
    },
  };
}
