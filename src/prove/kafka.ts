/**
 * `make prove/kafka`: three relays of one service and a broker, while events are committed and rolled back. Relays are killed at
 * every failpoint and at random, and stopped for longer than their lease; the broker is killed; then it is away for a minute, in which
 * 120,000 events are committed. Nothing may be lost, invented or reordered. KILLS=<n>, AWAY_SECONDS=<n>; QUICK=1:
 * 6 kills and ten seconds; FULL=1: 1,000 kills and ten minutes; SEED=<n> repeats the choices.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { UserUpdatedSchema } from "../../gen/concierge/user/v1/user_events_pb.ts";
import { type Kafka, startKafka } from "../../test/engines/kafka.ts";
import { machineLine } from "../bench/figures.ts";
import { connect } from "../db/connection.ts";
import { type Db, openDatabase, transaction } from "../db/database.ts";
import { startPostgres } from "../dev/postgres.ts";
import type { FailpointName } from "../failpoints.ts";
import { emit, event } from "../feed/emit.ts";
import { CLUSTER_VARIABLE, testDatabase } from "../testing/cluster.ts";
import { Random } from "../testing/seeded.ts";
import { until } from "../testing/until.ts";
import { Goals } from "./figures.ts";
import type { RelayProcessOptions } from "./kafka-relay.ts";
import { judgeTopic, makeTopic, readTopic } from "./kafka-topic.ts";
import { Member } from "./members.ts";
import { startWorker } from "./workers.ts";

const { FULL, QUICK, SEED, KILLS: KILLS_GIVEN, AWAY_SECONDS: AWAY_GIVEN } = process.env;
const KILLS = Number(KILLS_GIVEN ?? (FULL ? 1_000 : QUICK ? 6 : 50));
const AWAY_SECONDS = Number(AWAY_GIVEN ?? (FULL ? 600 : QUICK ? 10 : 60));
const FAILPOINTS: FailpointName[] = ["relay.before_publish", "relay.after_publish", "relay.after_move"];
const RELAYS = 3;
const WRITERS = 4;
const SUBJECTS = 200;
const PARTITIONS = 6;
const PREFIX = "prove.";
const TOPIC = `${PREFIX}user.events`;
const SERVICE = "user";
/** One kill of a relay in so many is followed by a stop, and one by a kill of the broker. */
const STOPS = 5;
const MAX_BETWEEN_MS = 1_500;
const MIN_STOP_MS = 2_000;
/** Longer than the lease. */
const MAX_STOP_MS = 9_000;
const ARRIVALS_PER_SECOND = 2_000;
const EVENTS_PER_TRANSACTION = 500;
const DRAIN_FACTOR = 5;
const CATCH_UP_MS = 120_000;
const LEAD_MS = 60_000;
const CLUSTER = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };

class RolledBack extends Error {}

async function main(): Promise<number> {
  const seed = Number(SEED ?? Math.floor(Math.random() * 2 ** 31));
  const goals = new Goals("kafka");
  goals.info(machineLine());
  goals.info(`SEED=${seed}`);
  await using resources = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-kafka-proof-"));
  resources.defer(() => rm(folder, { recursive: true, force: true }));
  // A root process runs the server as another account, which must get in.
  await chmod(folder, 0o755);
  const cluster = resources.use(await startPostgres({ folder: join(folder, "data"), settings: CLUSTER }));
  process.env[CLUSTER_VARIABLE] = cluster.url;
  const database = resources.use(await testDatabase());
  const kafka = resources.use(await startKafka());
  await makeTopic(kafka.broker, TOPIC, PARTITIONS);
  const url = database.runtimeUrl;
  const { db } = resources.use(openDatabase({ url, poolSize: WRITERS, applicationName: "prove/kafka" }));
  const sql = connect(database.ownerUrl, { applicationName: "prove/kafka" });
  resources.defer(() => sql.end());
  const options: RelayProcessOptions = { databaseUrl: url, broker: kafka.broker, prefix: PREFIX };
  const relays = Array.from({ length: RELAYS }, (_, slot) => {
    return resources.use(new Member("relay", slot, () => startRelay(folder, slot, options)));
  });
  for (const relay of relays) await relay.start();
  await attack({ relays, kafka, db, goals, random: new Random(seed, 0) });
  await until("everything is published", async () => (await behind(sql)) === 0, CATCH_UP_MS);
  await measureOutage(kafka, db, sql, goals);
  goals.atMost(
    "processes that ended by themselves",
    relays.reduce((sum, { endedByItself }) => sum + endedByItself, 0),
    0,
  );
  await judgeTopic(goals, sql, SERVICE, await readTopic(kafka.broker, TOPIC, PARTITIONS));
  return goals.missed === 0 ? 0 : 1;
}

async function startRelay(folder: string, slot: number, options: RelayProcessOptions) {
  const worker = startWorker("kafka-relay", { outputFile: join(folder, `relay-${slot}.log`) });
  await worker.call("start", options);
  return worker;
}

interface Attack {
  relays: Member<"relay">[];
  kafka: Kafka;
  db: Db;
  goals: Goals;
  random: Random;
}

/** While writers write: kills of relays, most of them of the one that publishes, stops, and kills of the broker. */
async function attack({ relays, kafka, db, goals, random }: Attack): Promise<void> {
  const end = new AbortController();
  const writers = Array.from({ length: WRITERS }, (_, number) => write(db, new Random(number, KILLS), end.signal));
  let [reached, stops, brokerKills] = [0, 0, 0];
  for (let kill = 0; kill < KILLS; kill++) {
    // After a kill it takes a lease's time until somebody publishes again: now and then nobody waits for that.
    const leader = random.oneIn(3)
      ? await leaderOf(relays)
      : await until("one publishes", () => leaderOf(relays), LEAD_MS);
    const failpoint = leader && !random.oneIn(3) ? random.pick(FAILPOINTS) : undefined;
    if (await (leader ?? random.pick(relays)).kill(failpoint)) reached++;
    await delay(random.below(MAX_BETWEEN_MS));
    if (kill % STOPS === STOPS - 1) {
      const stopMs = MIN_STOP_MS + random.below(MAX_STOP_MS - MIN_STOP_MS);
      const stopped = (await leaderOf(relays)) ?? random.pick(relays);
      await stopped.stopFor(random.pick(FAILPOINTS), () => delay(stopMs));
      stops++;
    }
    if (kill % STOPS === STOPS >> 1) {
      await kafka.kill();
      await delay(random.below(MAX_BETWEEN_MS));
      await kafka.start();
      brokerKills++;
    }
    if ((kill + 1) % 10 === 0) goals.info(`${kill + 1} kills`);
  }
  end.abort();
  await Promise.all(writers);
  goals.info(
    `${KILLS} kills of relays, ${reached} of them at failpoints, ${stops} stops, ${brokerKills} kills of the broker`,
  );
}

/** The one that publishes, if one does and says so at once. */
async function leaderOf(relays: Member<"relay">[]): Promise<Member<"relay"> | undefined> {
  const leads = await Promise.all(relays.map(({ worker }) => worker!.call<boolean>("leads").catch(() => false)));
  return relays.find((_, index) => leads[index]);
}

/** Some ten transactions a second, of which one in ten is rolled back. */
async function write(db: Db, random: Random, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const events = Array.from({ length: 1 + random.below(5) }, () => renamed(random.below(SUBJECTS), "attack"));
    await transaction(db, async (tx) => {
      await emit(tx, events);
      if (random.oneIn(10)) throw new RolledBack();
    }).catch((error: unknown) => {
      if (!(error instanceof RolledBack)) throw error;
    });
    await delay(random.below(200));
  }
}

function renamed(subject: number, firstName: string) {
  return event(UserUpdatedSchema, `user/${subject}`, { userId: String(subject), firstName });
}

/** Events that are committed while the broker is away are all published, much faster than they came. */
async function measureOutage(kafka: Kafka, db: Db, sql: Sql, goals: Goals): Promise<void> {
  await kafka.stop();
  for (let second = 0; second < AWAY_SECONDS; second++) {
    const startedAt = performance.now();
    for (let done = 0; done < ARRIVALS_PER_SECOND; done += EVENTS_PER_TRANSACTION) {
      const events = Array.from({ length: EVENTS_PER_TRANSACTION }, (_, index) => renamed(index % SUBJECTS, "outage"));
      await transaction(db, async (tx) => {
        await emit(tx, events);
      });
    }
    await delay(Math.max(0, 1_000 - (performance.now() - startedAt)));
  }
  await kafka.start();
  const before = await behind(sql);
  const startedAt = performance.now();
  await until("relays have begun", async () => (await behind(sql)) < before, CATCH_UP_MS);
  const begunAt = performance.now();
  const begunBehind = await behind(sql);
  await until("everything is published", async () => (await behind(sql)) === 0, CATCH_UP_MS);
  const rate = (begunBehind * 1_000) / (performance.now() - begunAt);
  goals.info(`${before} events behind, relays began after ${(begunAt - startedAt).toFixed(0)} ms`);
  goals.atLeast("R-OBX-04 drained, events a second", Math.round(rate), DRAIN_FACTOR * ARRIVALS_PER_SECOND);
}

async function behind(sql: Sql): Promise<number> {
  const [row] = await sql<{ behind: number }[]>`
    select (exists (select from feed_outbox where position is null)::integer
      + coalesce((select max(position) from feed_outbox), 0)
      - coalesce((select position from feed_cursor where source = 'kafka'), 0))::integer as behind`;
  return row!.behind;
}

process.exitCode = await main();
