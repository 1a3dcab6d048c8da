/** Cancellations against a real database, and against claims of the same moment. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { eq } from "drizzle-orm";
import { NIL } from "uuid";
import { NotificationCancelledSchema } from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import type { Db } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { redriveDeadLetters } from "./dead-letters.ts";
import { type Claim, claim, listUnprocessed } from "./leases.ts";
import { markProcessed, type Result } from "./results.ts";
import { deadLetters, deliveries, notifications, recipients } from "./schema.ts";
import { cancel, newIds, notify, openTestDatabase, scope } from "./testing.ts";

const owner = "service notification-sender";
const take = (db: Db, limit: number) => claim(db, scope, { owner, limit, leaseSeconds: 30 });

/** Whom it reached or was taken back from, by outcome. */
async function usersBy(db: Db, outcome: string | null): Promise<string[]> {
  const rows = await db.select().from(recipients).orderBy(recipients.userId);
  return rows.filter((row) => row.outcome === outcome).map(({ userId }) => userId);
}

/** Says the same of everybody who was taken; returns how many were processed by it. */
async function tell(db: Db, { lease, notifications }: Claim, result: Result): Promise<number> {
  const code = result === "sent" ? "" : "messaging/internal-error";
  const results = notifications.flatMap(({ notificationId, userIds }) => {
    return userIds.map((userId) => ({ notificationId, userId, result, code, retryAfterSeconds: 0 }));
  });
  const told = { owner, leaseToken: lease!.token, results, notificationIds: [], deadDeviceIds: [], maxTries: 10 };
  return markProcessed(db, scope, told);
}

async function told(db: Db): Promise<string[]> {
  const isCancelled = eq(feedOutbox.type, NotificationCancelledSchema.typeName);
  const rows = await db.select().from(feedOutbox).where(isCancelled).orderBy(feedOutbox.id);
  return rows.flatMap(({ payload }) => fromBinary(NotificationCancelledSchema, payload).userIds);
}

test("who waits is taken back, and told of once; who is under a lease is not, until it has run out", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const userIds = newIds(5);
  const other = await notify(db, newIds(1));
  await db.delete(deliveries).where(eq(deliveries.notificationId, other));
  const notificationId = await notify(db, userIds);
  const held = (await take(db, 2)).notifications.flatMap((taken) => taken.userIds).sort();
  assert.equal(held.length, 2);
  const waiting = userIds.filter((userId) => !held.includes(userId));

  assert.equal(await cancel(db, notificationId.toUpperCase()), 3);
  assert.equal(await cancel(db, notificationId), 0);
  assert.deepEqual(await usersBy(db, "cancelled"), waiting);
  assert.deepEqual(await told(db), waiting);
  assert.equal(await db.$count(deliveries), 2);

  await database.setOffset(31_000);
  assert.equal(await cancel(db, notificationId), 2);
  assert.deepEqual((await take(db, 10)).notifications, []);
  assert.deepEqual(await told(db), [...waiting, ...held]);
});

test("who waits for another try, and who was given up, are taken back, too; who was reached is not", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob, cid] = newIds(3) as [string, string, string];
  const notificationId = await notify(db, [ann, bob, cid]);
  await db.delete(deliveries).where(eq(deliveries.userId, ann));
  await db.update(recipients).set({ outcome: "sent" }).where(eq(recipients.userId, ann));
  const retryAt = new Date(Date.now() + 3_600_000);
  await db.update(deliveries).set({ availableAt: retryAt }).where(eq(deliveries.userId, bob));
  await db.delete(deliveries).where(eq(deliveries.userId, cid));
  await db.update(recipients).set({ outcome: "failed", code: "gave-up" }).where(eq(recipients.userId, cid));
  const dead = { queue: NIL, rank: 1, createdAt: new Date(), code: "gave-up" };
  await db.insert(deadLetters).values({ notificationId, userId: cid, ...dead });
  assert.equal(await cancel(db, notificationId), 2);
  assert.deepEqual(await usersBy(db, "cancelled"), [bob, cid]);
  assert.deepEqual(await usersBy(db, "sent"), [ann]);
  assert.equal(await db.$count(deadLetters), 0);
});

test("with claims at the same moment everybody is either under a lease or cancelled", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  for (let round = 0; round < 10; round++) {
    const userIds = newIds(40);
    const notificationId = await notify(db, userIds);
    const claims = Array.from({ length: 4 }, () => take(db, 5));
    const [cancelled, ...taken] = await Promise.all([cancel(db, notificationId), ...claims]);
    const held = taken.flatMap(({ notifications }) => notifications.flatMap((each) => each.userIds));
    assert.equal(cancelled + held.length, 40, `round ${round}`);
    assert.equal(new Set(held).size, held.length);
    const free = (await usersBy(db, "cancelled")).filter((userId) => userIds.includes(userId));
    assert.deepEqual([...free, ...held].sort(), userIds, `round ${round}`);
  }
});

for (const result of ["not_tried", "retry", "failed", "no_device"] as const) {
  test(`who was under a lease and is told of as ${result} after the cancellation is cancelled, and told of`, async () => {
    await using database = await openTestDatabase();
    const { db } = database;
    const [userId] = newIds(1) as [string];
    const notificationId = await notify(db, [userId]);
    const taken = await take(db, 1);
    assert.equal(await cancel(db, notificationId), 0);
    assert.deepEqual([await usersBy(db, "cancelled"), await told(db)], [[], []]);
    assert.equal(await tell(db, taken, result), 1);
    assert.equal(await tell(db, taken, result), 0);
    assert.deepEqual([await usersBy(db, "cancelled"), await told(db)], [[userId], [userId]]);
    assert.deepEqual([await db.$count(deliveries), await db.$count(deadLetters)], [0, 0]);
    assert.equal(await redriveDeadLetters(db, scope, { notificationId, code: "" }), 0);
  });
}

test("whom a sender reached under its lease after the cancellation stays sent", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const userIds = newIds(1);
  const notificationId = await notify(db, userIds);
  const taken = await take(db, 1);
  await cancel(db, notificationId);
  assert.equal(await tell(db, taken, "sent"), 1);
  assert.equal(await cancel(db, notificationId), 0);
  assert.deepEqual([await usersBy(db, "sent"), await told(db)], [userIds, []]);
});

test("a lease on a cancelled notification that runs out is given to nobody: not by a claim, not by a list", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  for (const userId of [ann, bob]) {
    const notificationId = await notify(db, [userId]);
    await take(db, 1);
    await cancel(db, notificationId);
  }
  await database.setOffset(31_000);
  assert.deepEqual((await take(db, 1)).notifications, []);
  assert.deepEqual((await told(db)).sort(), [ann, bob]);
  const [cid] = newIds(1) as [string];
  const notificationId = await notify(db, [cid]);
  await take(db, 1);
  await cancel(db, notificationId);
  await database.setOffset(62_000);
  assert.deepEqual(await listUnprocessed(db, scope, { owner, limit: 10 }), []);
  assert.deepEqual(await usersBy(db, "cancelled"), [ann, bob, cid].sort());
  assert.equal((await told(db)).length, 3);
});

test("a dead letter of a cancelled notification is not tried again", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const userIds = newIds(1);
  const notificationId = await notify(db, userIds);
  await tell(db, await take(db, 1), "failed");
  // As a row that another version of the service has left.
  await db.update(notifications).set({ cancelledAt: new Date() });
  assert.equal(await redriveDeadLetters(db, scope, { notificationId, code: "" }), 0);
  assert.equal(await cancel(db, notificationId), 1);
});

test("with results at the same moment nobody is left who waits or was given up", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  for (const result of ["failed", "retry", "not_tried", "failed", "failed"] as const) {
    const notificationId = await notify(db, newIds(40));
    const leases = [await take(db, 20), await take(db, 20)];
    const telling = leases.map((taken) => tell(db, taken, result));
    await Promise.all([...telling, cancel(db, notificationId)]);
    await take(db, 500);
    assert.deepEqual([await db.$count(deliveries), await db.$count(deadLetters)], [0, 0], result);
    assert.equal(await db.$count(recipients, eq(recipients.outcome, "cancelled")), await db.$count(recipients));
  }
});

test("a notification that does not exist cannot be cancelled", async () => {
  await using database = await openTestDatabase();
  const cancelling = cancel(database.db, crypto.randomUUID());
  await assert.rejects(cancelling, (error) => reasonOf(error) === "NOTIFICATION_NOT_FOUND");
});
