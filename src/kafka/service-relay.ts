/** The relay of a service in a process: there is one if brokers are configured and the service has events that may leave. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { FollowingSchema } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import type { PlatformConfig } from "../config.ts";
import { loadCursor } from "../feed/cursors.ts";
import { countParked } from "../feed/parked-events.ts";
import type { ServiceDefinition } from "../service.ts";
import type { Gauge } from "../telemetry/metrics.ts";
import { connectionOptions } from "./connection.ts";
import { openPublisher } from "./publisher.ts";
import { recordMaker } from "./records.ts";
import { KAFKA, KafkaRelay, type RelayOptions } from "./relay.ts";
import { routesOf } from "./topics.ts";

export interface ServiceRelay extends AsyncDisposable {
  start(): void;
  /** What it waits for; undefined while all goes well. */
  problem(): string | undefined;
  /** What /metrics shows of it. */
  gauges(): Gauge[];
  /** How far it has come, for operators. */
  status(): Promise<MessageInitShape<typeof FollowingSchema>>;
}

export interface ServiceRelayOptions extends Pick<RelayOptions, "db" | "feed" | "clock" | "log"> {
  platform: PlatformConfig;
}

/** Makes it; it begins with start(). Throws a StartupError for settings that cannot be. */
export function relayOf(
  definition: ServiceDefinition,
  { platform, ...options }: ServiceRelayOptions,
): ServiceRelay | undefined {
  const routes = platform.kafkaBrokers && routesOf(definition, platform.kafkaTopicPrefix);
  if (!routes) return undefined;
  const connection = connectionOptions(`concierge-${definition.name}`, platform);
  const recordsOf = recordMaker(definition.events!, routes);
  const relay = new KafkaRelay({ ...options, recordsOf, openPublisher: () => openPublisher(connection) });
  return {
    start: () => relay.start(),
    problem: () => relay.problem,
    gauges: () => gauges(relay, definition.name, options),
    status: () => status(relay, options),
    [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose](),
  };
}

function gauges(relay: KafkaRelay, service: string, { clock }: Pick<RelayOptions, "clock">): Gauge[] {
  const labels = { service };
  return [
    {
      name: "kafka_relay_waiting",
      help: "1 while this process cannot publish events to Kafka; wants a look",
      labels,
      read: () => (relay.problem === undefined ? 0 : 1),
    },
    {
      name: "kafka_relay_age_seconds",
      help: "Since all events were published to Kafka; NaN in a process that does not publish",
      labels,
      read: () => (relay.freshAt === undefined ? Number.NaN : (clock.monotonic() - relay.freshAt) / 1_000),
    },
    {
      name: "kafka_relay_parked_events",
      help: "Events that Kafka does not take, and those about their subjects; more than 0 wants a look",
      labels,
      read: () => relay.parked,
    },
    {
      kind: "counter",
      name: "kafka_relay_published_events_total",
      help: "Events that this process has published to Kafka",
      labels,
      read: () => relay.published,
    },
  ];
}

async function status(
  { freshAt }: KafkaRelay,
  { db, clock }: Pick<RelayOptions, "db" | "clock">,
): Promise<MessageInitShape<typeof FollowingSchema>> {
  const freshMs = freshAt === undefined ? undefined : clock.now() - (clock.monotonic() - freshAt);
  return {
    source: KAFKA,
    cursor: await loadCursor(db, KAFKA),
    parked: BigInt(await countParked(db, KAFKA)),
    completeAt: freshMs === undefined ? undefined : timestampFromMs(Math.round(freshMs)),
  };
}
