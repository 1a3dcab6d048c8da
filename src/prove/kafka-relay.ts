/** Worker: one replica of a service that publishes its feed to Kafka, and nothing else. */
import { systemClock } from "../clock.ts";
import { openDatabase } from "../db/database.ts";
import { FeedLog } from "../feed/log.ts";
import { openPublisher } from "../kafka/publisher.ts";
import { recordMaker } from "../kafka/records.ts";
import { KafkaRelay } from "../kafka/relay.ts";
import { routesOf } from "../kafka/topics.ts";
import { createLogger } from "../log.ts";
import { user } from "../services/user/service.ts";
import { fateCommands } from "./fate.ts";
import { answerCommands } from "./workers.ts";

const POOL_SIZE = 4;
let relay: KafkaRelay | undefined;

export interface RelayProcessOptions {
  databaseUrl: string;
  broker: string;
  prefix: string;
}

function start({ databaseUrl: url, broker, prefix }: RelayProcessOptions): void {
  const log = createLogger({ level: "warn", mode: "development" });
  const { db } = openDatabase({ url, poolSize: POOL_SIZE, applicationName: "prove/kafka relay" });
  const feed = new FeedLog({ service: user.name, url, db, log });
  feed.begin();
  const connection = { clientId: "prove", bootstrapBrokers: [broker], connectTimeout: 2_000, requestTimeout: 5_000 };
  relay = new KafkaRelay({
    ...{ db, feed, log, clock: systemClock },
    recordsOf: recordMaker(user.events!, routesOf(user, prefix)!),
    openPublisher: () => openPublisher(connection),
  });
  relay.start();
}

answerCommands({ ...fateCommands, start, leads: () => relay?.freshAt !== undefined });
