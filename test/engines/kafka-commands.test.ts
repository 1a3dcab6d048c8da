/** The commands of Kafka, and the demo with it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ExitCode } from "../../src/errors.ts";
import { runHere } from "../../src/testing/command.ts";
import { type Kafka, startKafka } from "./kafka.ts";

let kafka: Kafka;
before(async () => {
  kafka = await startKafka();
});
after(() => kafka[Symbol.asyncDispose]());

test("`kafka topics` makes what is missing, and says so", async () => {
  const env = {
    CONCIERGE_MODE: "development",
    CONCIERGE_KAFKA_BROKERS: kafka.broker,
    CONCIERGE_KAFKA_TOPIC_PREFIX: "a.",
  };
  const first = await runHere(["kafka", "topics", "--partitions", "2"], env);
  assert.match(first.stdout, /^made a\.artist\.created$/m);
  assert.match(first.stdout, /^made a\.user\.events$/m);
  assert.equal((await runHere(["kafka", "topics"], env)).stdout, "every topic is there\n");
});

test("`kafka` without brokers, with half of the credentials or with wrong numbers says what is wrong", async () => {
  const env = { CONCIERGE_MODE: "development" };
  assert.equal((await runHere(["kafka", "topics"], env)).code, ExitCode.config);
  const half = { ...env, CONCIERGE_KAFKA_BROKERS: kafka.broker, CONCIERGE_KAFKA_USERNAME: "concierge" };
  const refused = await runHere(["kafka", "consume"], half);
  assert.equal(refused.code, ExitCode.config);
  assert.match(refused.stderr, /CONCIERGE_KAFKA_PASSWORD/);
  assert.equal((await runHere(["kafka", "topics", "--partitions", "0"], half)).code, ExitCode.usage);
});

test("the demo shows an artist's event that another process has read from its topic", async () => {
  const { code, stdout, stderr } = await runHere(["demo"], { CONCIERGE_KAFKA_BROKERS: kafka.broker });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /hear of it from Kafka +ok .* concierge\.user\.v1\.ArtistCreated, event user\/\d+/);
});
