/** The whole system with Kafka behind TLS and a password, and what reads its topics. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { loadKafka } from "../../src/kafka/connection.ts";
import { consumeEvents, type ReceivedEvent } from "../../src/kafka/consumer.ts";
import { startTestSystem } from "../../src/testing/system.ts";
import { until } from "../../src/testing/until.ts";
import { type Kafka, startKafka } from "./kafka.ts";

const USER = { name: "concierge", password: "CANARYkafka7Gq2wXv9" };
let kafka: Kafka;
before(async () => {
  kafka = await startKafka({ user: USER });
});
after(() => kafka[Symbol.asyncDispose]());

async function connection() {
  const sasl = { mechanism: "SCRAM-SHA-256" as const, username: USER.name, password: USER.password };
  return {
    clientId: "test",
    bootstrapBrokers: [kafka.broker],
    tls: { ca: await readFile(kafka.authorityPath!, "utf8") },
    sasl,
  };
}

async function createTopics(topics: string[], configs: { name: string; value: string }[] = []): Promise<void> {
  const { Admin } = await loadKafka();
  const admin = new Admin(await connection());
  await admin.createTopics({ topics, partitions: 1, replicas: 1, configs });
  await admin.close();
}

/** Consumes until the scope ends. */
async function consume(topics: string[], opened: AsyncDisposableStack) {
  const end = new AbortController();
  const events: ReceivedEvent[] = [];
  const reasons: string[] = [];
  const consuming = consumeEvents({
    connection: await connection(),
    ...{ group: `test-${topics[0]}`, topics, from: "oldest", signal: end.signal },
    onEvent: (event) => void events.push(event),
    onUnreadable: ({ reason }) => void reasons.push(reason),
  });
  opened.defer(async () => {
    end.abort();
    await consuming;
  });
  return { events, reasons };
}

test("R-OBX-12 S-LOG-01 without topics the service is degraded and ready; with them new artists come, and no secret does", async () => {
  await using opened = new AsyncDisposableStack();
  const system = opened.use(
    await startTestSystem({
      variables: {
        CONCIERGE_KAFKA_BROKERS: `tls://${kafka.broker}`,
        CONCIERGE_KAFKA_CA_PATH: kafka.authorityPath!,
        CONCIERGE_KAFKA_USERNAME: USER.name,
        CONCIERGE_KAFKA_PASSWORD: USER.password,
      },
    }),
  );
  const password = "CANARY a long password 4711";
  const { userId } = await system.newUser({ stageName: "Night Owls", password });
  const ready = async () => {
    const response = await fetch(`${system.internalUrl}/readyz`);
    return { status: response.status, body: (await response.json()) as { degraded?: string[] } };
  };
  await until("user says so", async () => (await ready()).body.degraded?.some((line) => line.startsWith("user: ")));
  assert.equal((await ready()).status, 200);
  const metrics = await (await fetch(`${system.internalUrl}/metrics`)).text();
  assert.match(metrics, /^kafka_relay_waiting\{service="user"\} 1$/m);

  await createTopics(["user.events", "user.created", "artist.created", "auth.events"]);
  const { events } = await consume(["artist.created"], opened);
  await until("the artist came", () => events.length === 1);
  const [{ type, subject, payload }] = events as [ReceivedEvent];
  assert.equal(type, "concierge.user.v1.ArtistCreated");
  assert.equal(subject, `user/${userId}`);
  assert.equal(payload.stageName, "Night Owls");
  await until("user is well", async () => !(await ready()).body.degraded?.some((line) => line.startsWith("user: ")));
  const { following } = await system.asService(FeedInternalService, "operator", "user").getStatus({ service: "user" });
  assert.ok(following.find(({ source }) => source === "kafka")!.cursor!.position > 0n);
  const everything = await consume(["user.events"], opened);
  await until("others came, too", () => everything.events.length > 0);
  assert.ok(!JSON.stringify([system.logLines, everything.events, events]).includes("CANARY"));
});

test("S-INJ-08 forged, unknown, huge and broken records are put aside with a reason and hold up nothing", async () => {
  await using opened = new AsyncDisposableStack();
  await createTopics(["letters"], [{ name: "max.message.bytes", value: "4000000" }]);
  const { Producer } = await loadKafka();
  const producer = new Producer(await connection());
  opened.defer(() => producer.close());
  const good = (version: number) => ({
    ...{ id: `user/${version}`, type: "concierge.user.v1.UserUpdated", subject: "user/anna", version },
    ...{ time: new Date().toISOString(), payload: { firstName: String(version) } },
  });
  const record = (value: unknown, changes: { id?: string; key?: string } = {}) => ({
    topic: "letters",
    key: Buffer.from(changes.key ?? "user/anna"),
    value: Buffer.from(typeof value === "string" ? value : JSON.stringify(value)),
    headers: new Map([[Buffer.from("event-id"), Buffer.from(changes.id ?? (value as { id?: string }).id ?? "")]]),
  });
  const messages = [
    record(good(1)),
    record({ ...good(2), id: "auth/2" }),
    record(good(2), { id: "user/3" }),
    record(good(2), { key: "user/ben" }),
    record({ ...good(2), type: "concierge.user.v9.UserUpdated" }),
    record({ ...good(2), payload: { firstName: "x".repeat(2 * 1024 * 1024) } }),
    record('{"id": "user/2", "__proto__": '),
    record(good(1)),
    record(good(2)),
  ];
  for (const message of messages) await producer.send({ messages: [message] });
  const { events, reasons } = await consume(["letters"], opened);
  await until("the last one came", () => events.length === 2);
  assert.deepEqual(
    events.map(({ version }) => version),
    [1, 2],
  );
  const forged = "its id, key and type do not belong together";
  const unknown = "no event of a known form";
  assert.deepEqual(reasons, [forged, forged, forged, unknown, "too large, or empty", "no JSON"]);
});
