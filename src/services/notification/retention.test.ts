/** What is deleted after its time, and what is not, against a real database and its hour. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eq } from "drizzle-orm";
import { type Db, transaction } from "../../db/database.ts";
import { claim } from "./leases.ts";
import { markProcessed, type Result } from "./results.ts";
import { deleteOldNotifications } from "./retention.ts";
import { deadLetters, deliveries, notifications, recipients } from "./schema.ts";
import { newIds, notify, openTestDatabase, scope, store } from "./testing.ts";

const DAY_MS = 86_400_000;
const KEEP_DAYS = 30;

const run = (db: Db, keepDays = KEEP_DAYS) => deleteOldNotifications(db, keepDays).run(scope.signal);
const idsIn = async (db: Db) => (await db.select().from(notifications).orderBy(notifications.id)).map(({ id }) => id);

async function tellAll(db: Db, result: Result): Promise<void> {
  const { lease, notifications } = await claim(db, scope, { owner: "sender", limit: 500, leaseSeconds: 30 });
  const told = { result, code: "", retryAfterSeconds: 0 };
  const results = notifications.flatMap(({ notificationId, userIds }) => {
    return userIds.map((userId) => ({ notificationId, userId, ...told }));
  });
  const rest = { notificationIds: [], deadDeviceIds: [], maxTries: 10 };
  await markProcessed(db, scope, { owner: "sender", leaseToken: lease!.token, results, ...rest });
}

test("a notification goes after its days, with its recipients and dead letters, and not before", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await notify(db, newIds(3));
  await tellAll(db, "sent");
  await notify(db, newIds(2));
  await tellAll(db, "failed");
  const [nobody] = await store(db, [{ userIds: [] }]);
  await setOffset(KEEP_DAYS * DAY_MS - 60_000);
  await run(db);
  assert.equal((await idsIn(db)).length, 3);
  assert.ok((await idsIn(db)).includes(nobody!));
  await setOffset(KEEP_DAYS * DAY_MS + 60_000);
  await run(db, 0);
  await run(db, KEEP_DAYS + 1);
  assert.equal((await idsIn(db)).length, 3);
  await run(db);
  assert.deepEqual(await idsIn(db), []);
  assert.deepEqual([await db.$count(recipients), await db.$count(deadLetters)], [0, 0]);
});

test("what is still to be pushed is kept, whole, until it is processed", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const notificationId = await notify(db, [ann, bob]);
  await db.delete(deliveries).where(eq(deliveries.userId, bob));
  await db.update(recipients).set({ outcome: "sent", processedAt: new Date() }).where(eq(recipients.userId, bob));
  await setOffset((KEEP_DAYS + 1) * DAY_MS);
  await run(db);
  assert.deepEqual([await idsIn(db), await db.$count(recipients)], [[notificationId], 2]);
  assert.deepEqual((await claim(db, scope, { owner: "sender", limit: 10, leaseSeconds: 30 })).notifications, []);
  await run(db);
  assert.deepEqual([await idsIn(db), await db.$count(recipients)], [[], 0]);
});

test("more than fits in one batch is deleted in one run, and what is locked is left for the next one", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const many = Array.from({ length: 1_200 }, () => ({ userIds: newIds(1) }));
  const ids = await store(db, [{ userIds: newIds(10_000) }, ...many]);
  await db.delete(deliveries);
  await db.update(recipients).set({ outcome: "sent", processedAt: new Date() });
  await setOffset((KEEP_DAYS + 1) * DAY_MS);
  const locked = ids[700]!;
  await transaction(db, async (tx) => {
    await tx.select().from(recipients).where(eq(recipients.notificationId, locked)).for("update");
    await run(db);
  });
  assert.deepEqual(await idsIn(db), [locked]);
  await run(db);
  assert.deepEqual([await idsIn(db), await db.$count(recipients)], [[], 0]);
});
