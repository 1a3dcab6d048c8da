/** Allowances against a real database and its hour. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import type { Db } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { takeAllowance } from "./allowances.ts";
import { openTestDatabase, scope } from "./testing.ts";

const PER_MINUTE = 6_000;
const BURST = 12_000;

const take = (db: Db, count: number, name = "bakery", perMinute = PER_MINUTE) =>
  takeAllowance(db, scope, { name, count, perMinute });

/** Milliseconds until it would be enough; undefined for what was not refused. */
async function waitOf(taking: Promise<void>): Promise<number | undefined> {
  try {
    await taking;
    return undefined;
  } catch (error) {
    assert.equal(reasonOf(error), "TOO_MANY_NOTIFICATIONS");
    const [retry] = (error as ConnectError).findDetails(RetryInfoSchema);
    return Number(retry!.retryDelay!.seconds) * 1_000 + retry!.retryDelay!.nanos / 1e6;
  }
}

test("S-NOT-12 two minutes' worth goes at once, then what comes back with time, and whoever is refused is told when", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const startedAt = performance.now();
  await take(db, 10_000);
  await take(db, BURST - 10_000);
  const waitMs = (await waitOf(take(db, 1_000)))!;
  // What has passed meanwhile has given some back.
  const leastMs = 9_999 - (performance.now() - startedAt);
  assert.ok(waitMs >= leastMs && waitMs <= 10_000, `${waitMs} ms for 1,000 at 100 a second`);
  assert.equal(await waitOf(take(db, BURST - 10_000, "another")), undefined);
  await database.setOffset(5_000);
  assert.notEqual(await waitOf(take(db, 1_000)), undefined);
  await database.setOffset(11_000);
  assert.equal(await waitOf(take(db, 1_000)), undefined);
  assert.notEqual(await waitOf(take(db, 1_000)), undefined);
});

test("S-NOT-12 time that passes unused gives no more than a burst, and the largest notification always has a chance", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  await take(db, 1);
  await database.setOffset(86_400_000);
  await take(db, BURST - 1);
  assert.notEqual(await waitOf(take(db, 2_000)), undefined);
  await take(db, 10_000, "slow", 1);
  const days = (await waitOf(take(db, 10_000, "slow", 1)))! / 86_400_000;
  assert.ok(days > 6.9 && days < 7, `${days} days`);
});

test("S-NOT-12 of many that take at once, only as many have it as there is", async () => {
  await using database = await openTestDatabase();
  const taking = Array.from({ length: 20 }, () => waitOf(take(database.db, 1_000)));
  const waits = await Promise.all(taking);
  const taken = waits.filter((wait) => wait === undefined).length;
  assert.equal(taken, BURST / 1_000);
});
