/** What `concierge doctor` says of a real Redis and of real brokers. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { user } from "../../src/services/user/service.ts";
import { runHere } from "../../src/testing/command.ts";
import { type TestEnvironment, testEnvironment } from "../../src/testing/environment.ts";
import { until } from "../../src/testing/until.ts";
import { startKafka } from "./kafka.ts";
import { startRedis } from "./redis.ts";

let environment: TestEnvironment;
before(async () => {
  environment = await testEnvironment([user]);
});
after(() => environment[Symbol.asyncDispose]());

/** What the doctor says of one thing. */
async function linesAbout(what: string, variables: Record<string, string>): Promise<string> {
  const env = { ...environment.variables, CONCIERGE_MODE: "development", ...variables };
  const { stdout } = await runHere(["doctor", "user"], env);
  return stdout
    .split("\n")
    .filter((line) => line.split(" ")[1] === `${what}:`)
    .join("\n");
}

test("a Redis that answers, one whose memory takes nothing more, and one that refuses the password", async () => {
  const password = "password-of-a-Redis-of-tests";
  await using redis = await startRedis({ password });
  const variables = { CONCIERGE_REDIS_URL: redis.url, CONCIERGE_REDIS_CA_PATH: redis.authorityPath! };
  // A busy machine may be slow once, which the doctor says.
  await until("it answers in time", async () =>
    /^ok Redis: answers in \d+\.\d ms$/.test(await linesAbout("Redis", variables)),
  );
  await redis.client.config("SET", "maxmemory", "100mb");
  const full = /^warning Redis: takes nothing more when its memory is full; set maxmemory-policy to allkeys-lru$/m;
  assert.match(await linesAbout("Redis", variables), full);
  const wrong = { ...variables, CONCIERGE_REDIS_URL: redis.url.replace(/:[^:@]+@/, ":another-password@") };
  assert.match(await linesAbout("Redis", wrong), /^problem Redis: does not answer \(WRONGPASS\); see whether/);
});

test("brokers without topics, and with them", async () => {
  await using kafka = await startKafka();
  const variables = { CONCIERGE_KAFKA_BROKERS: kafka.broker, CONCIERGE_KAFKA_TOPIC_PREFIX: "d." };
  const missing =
    /^problem Kafka: has no topic d\.artist\.created, .*d\.user\.events, .*; run `concierge kafka topics`/;
  assert.match(await linesAbout("Kafka", variables), missing);
  await runHere(["kafka", "topics"], { ...variables, CONCIERGE_MODE: "development" });
  assert.match(await linesAbout("Kafka", variables), /^ok Kafka: answers, and has all \d+ topics$/);
});
