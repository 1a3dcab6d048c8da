/** The relay with a real broker: whatever dies, stands still or is missing, events come to their topics, in order. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Admin, ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from "@platformatic/kafka";
import { sql } from "drizzle-orm";
import { SessionEndedSchema } from "../../gen/concierge/auth/v1/auth_events_pb.ts";
import { UserCreatedSchema } from "../../gen/concierge/user/v1/user_events_pb.ts";
import { armFailpoint } from "../../src/failpoints.ts";
import { event } from "../../src/feed/emit.ts";
import { openPublisher } from "../../src/kafka/publisher.ts";
import { createTestClock } from "../../src/testing/clock.ts";
import { setDatabaseOffset } from "../../src/testing/cluster.ts";
import { until } from "../../src/testing/until.ts";
import { type Kafka, startKafka } from "./kafka.ts";
import { connectionTo, idsOf, makeTopics, openFeed, renamed, reordered, watchTopic } from "./kafka-setting.ts";

let kafka: Kafka;
before(async () => {
  kafka = await startKafka();
});
after(() => kafka[Symbol.asyncDispose]());

const PEOPLE = ["anna", "ben", "cleo", "dora", "emil"];
const numbered = (count: number) =>
  Array.from({ length: count }, (_, index) => renamed(PEOPLE[index % PEOPLE.length]!, String(index)));

test("an event comes to its topics as JSON, with its subject as the key and its place in the headers", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, prefix, topic } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic, `${prefix}user.created`]);
  const created = { userId: "anna", email: "anna@example.com", firstName: "Anna" };
  await publish([event(UserCreatedSchema, "user/anna", created), renamed("anna", "Anne")]);
  relay();
  const all = await watchTopic(kafka.broker, topic, opened);
  const own = await watchTopic(kafka.broker, `${prefix}user.created`, opened);
  await until("both are there", () => all.length === 2 && own.length === 1);
  const [{ key, headers, value }] = own as [(typeof own)[0]];
  const { time, ...rest } = value;
  const payload = { ...created, lastName: "", locale: "" };
  const type = "concierge.user.v1.UserCreated";
  assert.deepEqual(rest, { id: "user/1", type, subject: "user/anna", version: 1, payload });
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
  assert.equal(key, "user/anna");
  assert.equal(headers["event-id"], "user/1");
  assert.equal(headers.position, "1");
  assert.match(headers.epoch!, /^[0-9a-f]{16}$/);
  assert.deepEqual(
    all.map((seen) => seen.value.version),
    [1, 2],
  );
});

test("R-OBX-02 what was acknowledged before the cursor moved comes again with the same ids, and nothing is lost", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, topic } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic]);
  await publish(numbered(20));
  const failing = armFailpoint("relay.after_publish", "error");
  relay();
  const seen = await watchTopic(kafka.broker, topic, opened);
  await until("they came twice", () => seen.length >= 40);
  failing[Symbol.dispose]();
  await publish(numbered(10));
  await until("the later ones are there", () => idsOf(seen).size === 30);
  assert.deepEqual(reordered(seen), []);
});

test("R-OBX-05 one relay publishes at a time, and one that stood still repeats and reorders nothing new", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, topic, database } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic]);
  const stopped = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  let comers = 0;
  using _ = armFailpoint("relay.before_publish", () => {
    if (comers++ > 0) return Promise.resolve();
    reached.resolve();
    return stopped.promise;
  });
  await publish(numbered(20));
  const relays = [relay(), relay(), relay()];
  await reached.promise;
  assert.deepEqual(
    relays.map(({ published }) => published),
    [0, 0, 0],
  );
  await setDatabaseOffset(database.ownerUrl, 6_000);
  const seen = await watchTopic(kafka.broker, topic, opened);
  await until("another one publishes", () => seen.length === 20);
  await publish(numbered(20));
  await until("and goes on", () => seen.length === 40);
  stopped.resolve();
  await until("what the resumed one held is repeated", () => seen.length === 60);
  await publish(numbered(20));
  await until("one of them goes on", () => idsOf(seen).size === 60);
  assert.deepEqual(reordered(seen), []);
  assert.equal(seen.length, 80);
  assert.equal(relays.filter(({ freshAt }) => freshAt !== undefined).length, 1);
});

test("a relay that is stopped before it has read anything stops quietly", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, topic } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic]);
  await publish(numbered(1));
  const stopped = Promise.withResolvers<void>();
  const running = relay({
    async openPublisher() {
      stopped.resolve(running[Symbol.asyncDispose]());
      return openPublisher(connectionTo(kafka.broker));
    },
  });
  // What nobody awaits any more must not end the process.
  await stopped.promise;
  assert.equal(running.published, 0);
});

test("R-OBX-07 a broker that took records and did not say so has them once, after the retry", async () => {
  await using opened = new AsyncDisposableStack();
  const { topic } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic]);
  const publisher = opened.use(await openPublisher({ ...connectionTo(kafka.broker), requestTimeout: 500 }));
  const record = (version: number) => {
    const value = Buffer.from(JSON.stringify({ id: `user/${version}`, subject: "user/anna", version }));
    return { topic, key: Buffer.from("user/anna"), value, headers: new Map<Buffer, Buffer>() };
  };
  await publisher.publish([record(1)]);
  process.kill(kafka.pid()!, "SIGSTOP");
  const publishing = publisher.publish([record(2), record(3)]);
  // Long enough for retries to lie at the broker's door beside the first request.
  const resumed = setTimeout(() => process.kill(kafka.pid()!, "SIGCONT"), 1_500);
  opened.defer(() => clearTimeout(resumed));
  await publishing;
  await publisher.publish([record(4)]);
  const seen = await watchTopic(kafka.broker, topic, opened);
  await until("the last one is there", () => seen.some(({ value }) => value.version === 4));
  assert.deepEqual(
    seen.map(({ value }) => value.version),
    [1, 2, 3, 4],
  );
});

test("R-OBX-08 an event that the broker refuses is parked, holds up only its subject, and comes when it can", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, topic, logLines } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic], { "max.message.bytes": "4000" });
  const clock = createTestClock();
  const running = relay({ clock });
  const canary = "CANARY-4711".repeat(1_000);
  await publish([renamed("anna", "1"), renamed("anna", canary), renamed("anna", "3"), renamed("ben", "1")]);
  await publish([renamed("anna", "4"), renamed("ben", "2")]);
  const seen = await watchTopic(kafka.broker, topic, opened);
  const firstNames = (person: string) =>
    seen.filter(({ key }) => key === `user/${person}`).map(({ value }) => value.payload.firstName);
  await until("others flow", () => firstNames("ben").at(-1) === "2" && running.parked === 3);
  assert.ok(!firstNames("anna").includes("4"));
  const alarms = logLines.filter(({ level, event: id }) => level === "error" && id !== undefined);
  assert.deepEqual(
    alarms.map(({ event: id, reason }) => [id, reason]),
    [["user/2", "MESSAGE_TOO_LARGE"]],
  );
  assert.ok(!JSON.stringify(logLines).includes("CANARY"), "S-LOG-01");
  await allowLarger(topic);
  await until("it came", () => {
    // Brokers apply it a moment later, and what is parked is tried once a minute.
    clock.advance(60_000);
    return firstNames("anna").length >= 4 && running.parked === 0;
  });
  assert.deepEqual(reordered(seen), []);
});

async function allowLarger(topic: string): Promise<void> {
  const admin = new Admin(connectionTo(kafka.broker));
  const configs = [
    { name: "max.message.bytes", configOperation: IncrementalAlterConfigOperationTypes.SET, value: "1000000" },
  ];
  const resources = [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: topic, configs }];
  await admin.incrementalAlterConfigs({ resources, validateOnly: false });
  await admin.close();
}

test("R-OBX-08 an event that cannot be written as JSON is parked, and holds up only its subject", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, topic } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic]);
  const broken = { ...renamed("anna", "2"), payload: Buffer.from("no such message") };
  const unknown = event(SessionEndedSchema, "user/cleo", {});
  await publish([renamed("anna", "1"), broken, renamed("anna", "3"), unknown, renamed("ben", "1")]);
  const running = relay();
  const seen = await watchTopic(kafka.broker, topic, opened);
  await until("others flow", () => seen.length === 2 && running.parked === 3);
  assert.deepEqual(seen.map(({ key }) => key).sort(), ["user/anna", "user/ben"]);
});

test("R-OBX-12 without its topic the relay waits and says so, writes go on, and nothing is lost", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, topic, logLines, db } = await openFeed(kafka.broker, opened);
  const running = relay();
  await publish(numbered(5));
  await until("it waits", () => running.problem !== undefined);
  assert.match(running.problem!, /^Kafka \(/);
  await publish(numbered(5));
  const [cursor] = await db.execute(sql`select position from feed_cursor where source = 'kafka'`);
  assert.equal(cursor, undefined);
  await makeTopics(kafka.broker, [topic]);
  const seen = await watchTopic(kafka.broker, topic, opened);
  await until("all are there", () => idsOf(seen).size === 10 && running.problem === undefined);
  assert.deepEqual(reordered(seen), []);
  assert.equal(logLines.filter(({ msg }) => msg === "events are not published to Kafka").length, 1);
});

test("R-OBX-04 while the broker is away events are committed, and come in order when it is back", async () => {
  await using opened = new AsyncDisposableStack();
  const { publish, relay, topic } = await openFeed(kafka.broker, opened);
  await makeTopics(kafka.broker, [topic]);
  const running = relay();
  await publish(numbered(10));
  await until("it publishes", () => running.published === 10);
  await kafka.kill();
  for (let round = 0; round < 20; round++) await publish(numbered(100));
  await kafka.start();
  const seen = await watchTopic(kafka.broker, topic, opened);
  await until("all are there", () => idsOf(seen).size === 2_010, 20_000);
  assert.deepEqual(reordered(seen), []);
});
