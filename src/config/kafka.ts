/**
 * The variables of Kafka, in every process that may publish to it or read from it. Without brokers there is no Kafka, and nothing
 * of it is loaded.
 */
import { z } from "zod";
import { reachOf } from "./network.ts";
import { secret } from "./secret.ts";
import { list, type Refusal, setting } from "./variable.ts";

/** Where the brokers are; all of them are spoken to in one way. */
export interface KafkaBrokers {
  readonly addresses: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
}

const ADDRESS = /^(tls:\/\/)?(\[[0-9a-f:]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/i;
const MAX_PORT = 65_535;

const brokers = list.transform((items, context): KafkaBrokers => {
  const found = items.map((item) => ADDRESS.exec(item));
  const addresses = found.map((parts) => ({
    host: (parts?.[2] ?? "").replace(/^\[|\]$/g, ""),
    port: Number(parts?.[3] ?? 0),
  }));
  const isSound = addresses.length > 0 && addresses.every(({ port }) => port > 0 && port <= MAX_PORT);
  if (!isSound) context.addIssue("must be addresses such as kafka-1:9092, or tls://kafka-1:9093 for TLS");
  const tls = found[0]?.[1] !== undefined;
  if (found.some((parts) => (parts?.[1] !== undefined) !== tls)) context.addIssue("must have tls:// at all or at none");
  return { addresses, tls };
});

/** Refuses cleartext that leaves this host. */
function encryptedBrokers(value: KafkaBrokers | undefined): Refusal | undefined {
  const reaches = value && !value.tls ? value.addresses.map(({ host }) => reachOf(host)) : [];
  if (reaches.every((reach) => reach === "loopback")) return undefined;
  return {
    problem: "reaches another host without TLS (use tls://)",
    risk: "cleartextPeers",
    allowedInDemo: !reaches.includes("elsewhere"),
  };
}

export const kafkaSettings = {
  kafkaBrokers: setting(
    brokers.optional(),
    "Kafka brokers that events are published to, host:port or tls://host:port, with commas between; not set: no Kafka",
    { production: encryptedBrokers },
  ),
  kafkaCaPath: setting(
    z.string().min(1).optional(),
    "PEM file with the authorities that certify the brokers, instead of the well-known ones",
  ),
  kafkaUsername: setting(z.string().min(1).optional(), "Name for SASL at the brokers; not set: no SASL"),
  kafkaPassword: secret.password("Password for SASL at the brokers", { optional: true }),
  kafkaMechanism: setting(
    z.enum(["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]).default("SCRAM-SHA-512"),
    "How SASL proves the password: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN",
  ),
  kafkaTopicPrefix: setting(
    z
      .string()
      .regex(/^[A-Za-z0-9._-]{0,100}$/, "must be letters, digits or ._-")
      .default(""),
    "What the names of all topics begin with",
  ),
};
