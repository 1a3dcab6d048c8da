/** Retries against a real database: how long a recipient waits, when it is given up, and that telling twice counts once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Db } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { claim, extendLease, listUnprocessed } from "./leases.ts";
import { backoffSeconds, markProcessed, type RecipientResult, type Results } from "./results.ts";
import { deadLetters, deliveries, recipients } from "./schema.ts";
import { newIds, openTestDatabase, scope, store } from "./testing.ts";

const leaseLost = (error: unknown) => reasonOf(error) === "LEASE_LOST";

const take = (db: Db) => claim(db, scope, { owner: "sender", limit: 500, leaseSeconds: 30 });

/** One recipient under a lease. */
async function takeOne(db: Db) {
  const { lease, notifications } = await take(db);
  const [{ notificationId, userIds } = { notificationId: "", userIds: [""] }] = notifications;
  return { leaseToken: lease?.token, notificationId, userId: userIds[0]! };
}

type Taken = Awaited<ReturnType<typeof takeOne>>;

function tell(db: Db, { leaseToken, ...recipient }: Taken, told: Partial<RecipientResult> & Partial<Results>) {
  const { result = "retry", code = "messaging/server-unavailable", retryAfterSeconds = 0, ...rest } = told;
  const results = [{ ...recipient, result, code, retryAfterSeconds }];
  const nothing = { owner: "sender", notificationIds: [], deadDeviceIds: [], maxTries: 10 };
  return markProcessed(db, scope, { ...nothing, leaseToken, results, ...rest });
}

async function delivery(db: Db) {
  const [row] = await db.select().from(deliveries);
  return row!;
}

/** Tells, and asserts that the recipient waits for so many seconds from then on, whatever time the telling takes. */
async function assertWait(db: Db, telling: () => Promise<number>, [least, most]: [number, number], offsetMs = 0) {
  const before = Date.now();
  assert.equal(await telling(), 0);
  const after = Date.now();
  const until = (await delivery(db)).availableAt.getTime() - offsetMs;
  const told = `${until - before} to ${until - after} ms`;
  // A hundredth of a second for what is cut off of times.
  assert.ok(until - before > least * 1_000 - 10 && until - after < most * 1_000 + 10, told);
}

test("R-NOT-08 the wait is 10 s, twice as long after each try, an hour at most, and spread", () => {
  const middle = Array.from({ length: 12 }, (_, index) => backoffSeconds(index + 1, 0.5));
  assert.deepEqual(middle, [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600]);
  assert.deepEqual([backoffSeconds(1, 0), backoffSeconds(2, 0), backoffSeconds(2, 1)], [10, 16, 24]);
});

test("R-NOT-08 who is to be tried again waits, for as long as the push service asks for", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await store(db, [{ userIds: newIds(1) }]);
  const taken = await takeOne(db);
  await assertWait(db, () => tell(db, taken, {}), [10, 12]);
  assert.deepEqual(await take(db), { notifications: [] });
  assert.deepEqual(await listUnprocessed(db, scope, { owner: "backend", limit: 0 }), []);

  await setOffset(13_000);
  const again = await takeOne(db);
  await assertWait(db, () => tell(db, again, { retryAfterSeconds: 300 }), [300, 300], 13_000);
  assert.equal((await delivery(db)).failedTries, 2);
  assert.equal(await db.$count(feedOutbox), 0);

  await setOffset(320_000);
  assert.equal(await tell(db, await takeOne(db), { result: "sent" }), 1);
  const [recipient] = await db.select().from(recipients);
  assert.deepEqual([recipient!.outcome, recipient!.failedTries, recipient!.code], ["sent", 2, null]);
});

test("R-NOT-12 what fails at every try is given up at the last, with its last code, and the queue moves", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const [id] = await store(db, [{ userIds: newIds(1) }]);
  for (let round = 0; round < 10; round++) {
    await setOffset(round * 4_000_000);
    const isLast = round === 9;
    const code = isLast ? "messaging/quota-exceeded" : "messaging/server-unavailable";
    assert.equal(await tell(db, await takeOne(db), { code }), isLast ? 1 : 0, `round ${round}`);
  }
  assert.deepEqual(await take(db), { notifications: [] });
  const [dead] = await db.select().from(deadLetters);
  assert.deepEqual([dead?.notificationId, dead?.failedTries, dead?.code], [id, 10, "messaging/quota-exceeded"]);
  const [recipient] = await db.select().from(recipients);
  assert.deepEqual(
    [recipient!.outcome, recipient!.failedTries, recipient!.code],
    ["failed", 10, "messaging/quota-exceeded"],
  );
  assert.equal(await db.$count(feedOutbox), 1);
});

test("what was refused for good is a dead letter at once, and failed even without a code", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  await store(db, [{ userIds: newIds(1) }]);
  assert.equal(await tell(db, await takeOne(db), { result: "failed", code: "" }), 1);
  const [dead] = await db.select().from(deadLetters);
  assert.deepEqual([dead?.code, dead?.failedTries], ["rejected", 1]);
});

test("what was not tried is free at once, or when the push service wants it, and nothing is counted", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  await store(db, [{ userIds: newIds(1) }]);
  await tell(db, await takeOne(db), { result: "not_tried" });
  const again = await takeOne(db);
  assert.ok(again.leaseToken);
  await assertWait(db, () => tell(db, again, { result: "not_tried", retryAfterSeconds: 60 }), [60, 60]);
  assert.deepEqual(await take(db), { notifications: [] });
  const { failedTries, claims, leaseOwner } = await delivery(db);
  assert.deepEqual([failedTries, claims, leaseOwner], [0, 0, null]);
});

test("S-NOT-04 a retry that is told twice counts once, and is refused once somebody else has it", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await store(db, [{ userIds: newIds(1) }]);
  const taken = await takeOne(db);
  assert.equal(await tell(db, taken, {}), 0);
  const before = await delivery(db);
  assert.equal(await tell(db, taken, {}), 0);
  assert.equal(await tell(db, taken, { result: "not_tried" }), 0);
  assert.deepEqual(await delivery(db), before);

  // The lease has ended: it covers neither another word nor another push.
  await assert.rejects(tell(db, taken, { result: "sent" }), leaseLost);
  const extend = { owner: "sender", token: taken.leaseToken!, leaseSeconds: 30 };
  await assert.rejects(extendLease(db, scope, extend), leaseLost);
  await assert.rejects(tell(db, { ...taken, leaseToken: crypto.randomUUID() }, {}), leaseLost);
  assert.deepEqual(await delivery(db), before);

  await setOffset(13_000);
  assert.ok((await takeOne(db)).leaseToken);
  await assert.rejects(tell(db, taken, {}), leaseLost);
});

test("one call may tell of many in every way, all of it or nothing", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(5);
  const ids = await store(
    db,
    users.map((userId) => ({ userIds: [userId] })),
  );
  const { lease } = await take(db);
  const ways = ["sent", "no_device", "failed", "retry", "not_tried"] as const;
  const results = ways.map((result, index) => {
    return { notificationId: ids[index]!, userId: users[index]!, result, code: "", retryAfterSeconds: 0 };
  });
  const told = { owner: "sender", leaseToken: lease!.token, notificationIds: [], deadDeviceIds: [], maxTries: 10 };
  const stranger = { ...results[0]!, userId: crypto.randomUUID() };
  await assert.rejects(markProcessed(db, scope, { ...told, results: [...results, stranger] }), leaseLost);
  assert.equal(await db.$count(deliveries), 5);
  assert.equal(await markProcessed(db, scope, { ...told, results }), 3);
  assert.equal(await markProcessed(db, scope, { ...told, results }), 0);
  assert.deepEqual((await db.select().from(deliveries)).map(({ userId }) => userId).sort(), users.slice(3));
  assert.equal(await db.$count(deadLetters), 1);
  assert.equal(await db.$count(feedOutbox), 3);
});
