/** The Redis that other tests use: what it is told stays through a kill, and clients come as they are told to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../../src/testing/until.ts";
import { startRedis } from "./redis.ts";

test("what it is told stays, through a stop and a kill, on the same port", async () => {
  await using redis = await startRedis();
  await redis.client.set("letter", "first");
  await redis.stop();
  await redis.start();
  assert.equal(await redis.client.get("letter"), "first");
  await redis.kill();
  await until("the client has seen it", () => redis.client.status !== "ready");
  await assert.rejects(redis.client.get("letter"));
  await redis.start();
  assert.equal(await redis.client.get("letter"), "first");
});
