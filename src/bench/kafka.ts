/**
 * `make bench/kafka` (P5): how fast a relay drains a backlog, beside a bare producer with the same client, settings, records and
 * batches; and how long an event takes from its commit to a consumer. Both again while somebody holds an old snapshot, under which
 * rows have died. Over a durable PostgreSQL and a broker of its own. QUICK=1 takes less; ONLY=drain or latency takes one, without a
 * snapshot. Ends with 1 if a goal is missed.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Consumer } from "@platformatic/kafka";
import { sql as drizzleSql } from "drizzle-orm";
import type { Sql } from "postgres";
import { UserUpdatedSchema } from "../../gen/concierge/user/v1/user_events_pb.ts";
import { type Kafka, startKafka } from "../../test/engines/kafka.ts";
import { connect } from "../db/connection.ts";
import { type Db, openDatabase, transaction } from "../db/database.ts";
import { startPostgres } from "../dev/postgres.ts";
import { emit, event } from "../feed/emit.ts";
import { FeedLog } from "../feed/log.ts";
import { openPublisher } from "../kafka/publisher.ts";
import { type KafkaRecord, recordMaker } from "../kafka/records.ts";
import { routesOf } from "../kafka/topics.ts";
import { createLogger } from "../log.ts";
import { Goals } from "../prove/figures.ts";
import type { RelayProcessOptions } from "../prove/kafka-relay.ts";
import { makeTopic } from "../prove/kafka-topic.ts";
import { startWorker } from "../prove/workers.ts";
import { user } from "../services/user/service.ts";
import { CLUSTER_VARIABLE, testDatabase } from "../testing/cluster.ts";
import { until } from "../testing/until.ts";
import { machineLine, quantile } from "./figures.ts";

const { QUICK, ONLY } = process.env;
const ROUNDS = QUICK ? 3 : 5;
const EVENTS = QUICK ? 60_000 : 100_000;
const DEAD_ROWS = QUICK ? 50_000 : 1_000_000;
const LATENCY_EVENTS = QUICK ? 500 : 2_500;
const LATENCY_PAUSE_MS = 10;
const WARM_UP_EVENTS = 200;
const PARTITIONS = 6;
const SUBJECTS = 500;
const EVENTS_PER_TRANSACTION = 1_000;
const BATCH = 1_000;
const PATIENCE_MS = 600_000;
const PREFIX = "bench.";
const TOPIC = `${PREFIX}user.events`;
const SERVER_SETTINGS = { shared_buffers: "256MB", max_wal_size: "2GB" };

interface Setting {
  goals: Goals;
  kafka: Kafka;
  db: Db;
  sql: Sql;
  relay: RelayProcessOptions;
}

async function main(): Promise<number> {
  const goals = new Goals("kafka");
  goals.info(machineLine());
  await using resources = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-bench-kafka-"));
  resources.defer(() => rm(folder, { recursive: true, force: true }));
  // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
  await chmod(folder, 0o755);
  const server = resources.use(await startPostgres({ folder: join(folder, "data"), settings: SERVER_SETTINGS }));
  process.env[CLUSTER_VARIABLE] = server.url;
  const database = resources.use(await testDatabase());
  const kafka = resources.use(await startKafka());
  await makeTopic(kafka.broker, TOPIC, PARTITIONS);
  const url = database.runtimeUrl;
  const { db } = resources.use(openDatabase({ url, poolSize: 4, applicationName: "bench/kafka" }));
  const log = createLogger({ level: "error", mode: "development" });
  resources.use(new FeedLog({ service: user.name, url, db, log })).begin();
  const sql = connect(database.ownerUrl, { applicationName: "bench/kafka" });
  resources.defer(() => sql.end());
  const setting = { goals, kafka, db, sql, relay: { databaseUrl: url, broker: kafka.broker, prefix: PREFIX } };
  if (ONLY !== "latency") await measureDrain(setting, "");
  if (ONLY !== "drain") await measureLatency(setting, "");
  if (ONLY) return goals.missed === 0 ? 0 : 1;
  const snapshot = await holdSnapshot(database.ownerUrl, resources);
  await killRows(setting);
  await measureDrain(setting, " under a held snapshot");
  await measureLatency(setting, " under a held snapshot");
  await snapshot[Symbol.asyncDispose]();
  goals.info(`at the end: ${machineLine()}`);
  return goals.missed === 0 ? 0 : 1;
}

/** In turns with the bare producer, so that whatever else the machine does meets both. */
async function measureDrain(setting: Setting, when: string): Promise<void> {
  const rates: { relay: number; bare: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await write(setting.db, EVENTS);
    rates.push({ relay: await drain(setting), bare: await publishBare(setting) });
  }
  const [relay, bare] = [median(rates.map((rate) => rate.relay)), median(rates.map((rate) => rate.bare))];
  const raw = `relay ${relay.toFixed(0)} events/s, bare producer ${bare.toFixed(0)}`;
  setting.goals.atLeast(`P5 drained, beside a bare producer${when}`, Number((relay / bare).toFixed(2)), 0.5, raw);
}

async function write(db: Db, count: number): Promise<void> {
  for (let done = 0; done < count; done += EVENTS_PER_TRANSACTION) {
    await transaction(db, async (tx) => {
      await emit(
        tx,
        Array.from({ length: EVENTS_PER_TRANSACTION }, (_, index) => renamed(index % SUBJECTS, done + index)),
      );
    });
  }
}

function renamed(subject: number, number: number) {
  return event(UserUpdatedSchema, `user/${subject}`, {
    userId: String(subject),
    firstName: `Name ${number}`,
    locale: "en",
  });
}

/** Events a second, from the first move of the cursor to the last. */
async function drain({ relay, sql }: Setting): Promise<number> {
  await until("all have positions", async () => (await pendingOf(sql)) === 0, PATIENCE_MS);
  const head = await headOf(sql);
  const before = await cursorOf(sql);
  await using worker = startWorker("kafka-relay");
  await worker.call("start", relay);
  await until("it has begun", async () => (await cursorOf(sql)) > before, PATIENCE_MS);
  const [startedAt, start] = [performance.now(), await cursorOf(sql)];
  await until("it is done", async () => (await cursorOf(sql)) === head, PATIENCE_MS);
  const rate = ((head - start) * 1_000) / (performance.now() - startedAt);
  // The process is killed: the next one must not wait for its lease.
  await sql`delete from feed_lease`;
  return rate;
}

/** Records a second: those of the newest events again, made before the time is taken. */
async function publishBare({ kafka, sql }: Setting): Promise<number> {
  const rows = await sql<{ id: string; type: string; subject: string; version: string; payload: Uint8Array }[]>`
    select id, type, subject, version, payload from feed_outbox order by position desc limit ${EVENTS}`;
  const recordsOf = recordMaker(user.events!, routesOf(user, PREFIX)!);
  const records = rows.flatMap(({ id, version, ...row }) => {
    const place = { id: `user/${id}`, position: BigInt(id), version: BigInt(version), createdAt: new Date() };
    return recordsOf({ ...row, ...place }, "0123456789abcdef");
  });
  await using publisher = await openPublisher({ clientId: "bench", bootstrapBrokers: [kafka.broker] });
  const batches: KafkaRecord[][] = [];
  for (let start = 0; start < records.length; start += BATCH) batches.push(records.slice(start, start + BATCH));
  await publisher.publish(batches[0]!);
  const startedAt = performance.now();
  for (const batch of batches.slice(1)) await publisher.publish(batch);
  return ((records.length - batches[0]!.length) * 1_000) / (performance.now() - startedAt);
}

/** From the answer to the commit until a consumer has it. */
async function measureLatency({ goals, kafka, db, relay }: Setting, when: string): Promise<void> {
  await using worker = startWorker("kafka-relay");
  await worker.call("start", relay);
  const consumer = new Consumer({
    clientId: "bench",
    bootstrapBrokers: [kafka.broker],
    groupId: `bench${when.length}`,
  });
  const stream = await consumer.consume({ topics: [TOPIC], mode: "latest", autocommit: false, maxWaitTime: 500 });
  const committedAt = new Map<string, number>();
  const arrivedAt = new Map<string, number>();
  stream.on("data", ({ value }) => {
    const { payload } = JSON.parse(String(value)) as { payload: { firstName: string } };
    arrivedAt.set(payload.firstName, performance.now());
  });
  await until("it publishes", () => worker.call<boolean>("leads"), PATIENCE_MS);
  for (let number = 0; number < LATENCY_EVENTS; number++) {
    const name = `${when} ${number}`;
    const { subject, ...rest } = renamed(number % SUBJECTS, number);
    const { payload } = event(UserUpdatedSchema, subject, { userId: subject, firstName: name });
    await transaction(db, (tx) => emit(tx, [{ ...rest, subject, payload }]));
    committedAt.set(name, performance.now());
    await delay(LATENCY_PAUSE_MS);
  }
  await until("all have arrived", () => [...committedAt.keys()].every((name) => arrivedAt.has(name)), PATIENCE_MS);
  await consumer.close(true);
  const delays = [...committedAt].slice(WARM_UP_EVENTS).map(([name, at]) => Math.max(0, arrivedAt.get(name)! - at));
  goals.atMost(`P5 commit to consumer p50 ms${when}`, Number(quantile(delays, 0.5).toFixed(1)), 20);
  goals.atMost(`P5 commit to consumer p99 ms${when}`, Number(quantile(delays, 0.99).toFixed(1)), 200);
}

async function holdSnapshot(url: string, resources: AsyncDisposableStack): Promise<AsyncDisposable> {
  const holder = connect(url, { applicationName: "bench/kafka snapshot" });
  await holder.unsafe("begin isolation level repeatable read; select count(*) from feed_state");
  const held = { [Symbol.asyncDispose]: () => holder.end({ timeout: 0 }) };
  return resources.use(held);
}

/** Rows that are dead to everybody but the snapshot: of events that were written, read and trimmed. */
async function killRows({ db, sql, goals }: Setting): Promise<void> {
  await write(db, DEAD_ROWS);
  await until("all have positions", async () => (await pendingOf(sql)) === 0, PATIENCE_MS);
  await db.execute(drizzleSql`update feed_cursor set position = (select max(position) from feed_outbox)`);
  for (let done = 0; done < DEAD_ROWS; done += EVENTS_PER_TRANSACTION) {
    await sql`select feed_trim(clock_timestamp(), ${EVENTS_PER_TRANSACTION}::integer)`;
  }
  goals.info(`${DEAD_ROWS} events have died under a held snapshot`);
}

async function headOf(sql: Sql): Promise<number> {
  const [row] = await sql<{ head: number }[]>`select coalesce(max(position), 0)::integer as head from feed_outbox`;
  return row!.head;
}

async function pendingOf(sql: Sql): Promise<number> {
  const [row] = await sql<{ pending: number }[]>`
    select count(*)::integer as pending from (select from feed_outbox where position is null limit 1) waiting`;
  return row!.pending;
}

async function cursorOf(sql: Sql): Promise<number> {
  const [row] = await sql<{ position: number }[]>`select position::integer from feed_cursor where source = 'kafka'`;
  return row?.position ?? 0;
}

function median(values: number[]): number {
  return quantile(values, 0.5);
}

process.exitCode = await main();
