/** The broker that other tests use: what is written stays through a kill, and clients come as they are told to. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Admin, type BaseOptions, ListOffsetTimestamps, Producer, stringSerializers } from "@platformatic/kafka";
import { type Kafka, startKafka } from "./kafka.ts";

const USER = { name: "concierge", password: "for-a-test-only" };

function clientOptions({ broker }: Kafka): BaseOptions {
  return { clientId: "test", bootstrapBrokers: [broker], connectTimeout: 2_000, timeout: 5_000, retries: 3 };
}

async function write(kafka: Kafka, value: string): Promise<void> {
  const producer = new Producer({ ...clientOptions(kafka), serializers: stringSerializers });
  try {
    await producer.send({ messages: [{ topic: "letters", key: "a", value }] });
  } finally {
    await producer.close();
  }
}

test("what is written stays, through a kill and a stop, on the same port", async () => {
  await using kafka = await startKafka();
  const admin = new Admin(clientOptions(kafka));
  await admin.createTopics({ topics: ["letters"], partitions: 1, replicas: 1 });
  await write(kafka, "first");
  await kafka.kill();
  await assert.rejects(write(kafka, "nobody is there"));
  await kafka.start();
  await write(kafka, "second");
  await kafka.stop();
  await kafka.start();
  const [letters] = await admin.listOffsets({
    topics: [{ name: "letters", partitions: [{ partitionIndex: 0, timestamp: ListOffsetTimestamps.LATEST }] }],
  });
  assert.equal(letters!.partitions[0]!.offset, 2n);
  await admin.close();
});

test("with a user, clients come by TLS and with the password", async () => {
  await using kafka = await startKafka({ user: USER });
  const tls = { ca: await readFile(kafka.authorityPath!, "utf8") };
  const topics = async (options: Partial<BaseOptions>) => {
    const admin = new Admin({ ...clientOptions(kafka), retries: false, ...options });
    try {
      return await admin.listTopics();
    } finally {
      await admin.close();
    }
  };
  for (const mechanism of ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const) {
    const sasl = { mechanism, username: USER.name, password: USER.password };
    // The first handshakes of a JVM take long on a busy machine.
    assert.deepEqual(await topics({ tls, sasl, retries: 3 }), [], mechanism);
    await assert.rejects(topics({ tls, sasl: { ...sasl, password: "wrong" } }), mechanism);
  }
  await assert.rejects(topics({ tls }), "without a password");
  await assert.rejects(topics({}), "in the clear");
});
