/** How brokers are reached. The client is loaded here and only when it is needed: most processes have no Kafka. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import type { BaseOptions } from "@platformatic/kafka";
import type { PlatformConfig } from "../config.ts";
import { ExitCode, StartupError } from "../errors.ts";

/** What to know of the brokers. */
export type KafkaConfig = Pick<
  PlatformConfig,
  "kafkaBrokers" | "kafkaCaPath" | "kafkaUsername" | "kafkaPassword" | "kafkaMechanism"
>;

const CONNECT_TIMEOUT_MS = 3_000;
/** A broker that stands still is given up after this, and asked again. */
const REQUEST_TIMEOUT_MS = 10_000;

/** Loads the client. */
export function loadKafka(): Promise<typeof import("@platformatic/kafka")> {
  return import("@platformatic/kafka");
}

/** Options of every client. Throws a StartupError if half of the credentials is missing, or the authorities cannot be read. */
export function connectionOptions(clientId: string, config: KafkaConfig): BaseOptions {
  const { kafkaBrokers, kafkaUsername: username, kafkaPassword: password, kafkaMechanism: mechanism } = config;
  if (!kafkaBrokers) throw new StartupError("CONCIERGE_KAFKA_BROKERS is missing", ExitCode.config);
  if ((username === undefined) !== (password === undefined)) {
    const message = "CONCIERGE_KAFKA_USERNAME and CONCIERGE_KAFKA_PASSWORD are set together or not at all";
    throw new StartupError(message, ExitCode.config);
  }
  return {
    clientId,
    bootstrapBrokers: kafkaBrokers.addresses.map((address) => ({ ...address })),
    connectTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    ...(kafkaBrokers.tls && {
      tls: authorities(config.kafkaCaPath),
      // A server is not asked for by its address.
      tlsServerName: kafkaBrokers.addresses.every(({ host }) => isIP(host) === 0),
    }),
    ...(username !== undefined && { sasl: { mechanism, username, password: password! } }),
  };
}

function authorities(path: string | undefined): { ca?: string } {
  if (path === undefined) return {};
  try {
    return { ca: readFileSync(path, "utf8") };
  } catch (cause) {
    throw new StartupError(`the authorities of brokers cannot be read: ${path}`, ExitCode.config, { cause });
  }
}
