/** Results against a real database: what may be marked by whom, all of it or nothing, and what is told of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { asc, eq } from "drizzle-orm";
import {
  type NotificationProcessed,
  NotificationProcessedSchema,
} from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import type { Db } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { registerDevice } from "./devices.ts";
import { claim, listUnprocessed } from "./leases.ts";
import { markProcessed, type RecipientResult, type Result, type Results } from "./results.ts";
import { devices, recipients } from "./schema.ts";
import { newIds, notify, openTestDatabase, scope } from "./testing.ts";

const leaseLost = (error: unknown) => reasonOf(error) === "LEASE_LOST";

async function take(db: Db, owner = "sender"): Promise<string> {
  const { lease } = await claim(db, scope, { owner, limit: 500, leaseSeconds: 30 });
  assert.ok(lease);
  return lease.token;
}

function mark(db: Db, results: Partial<Results>) {
  const nothing = { leaseToken: undefined, notificationIds: [], results: [], deadDeviceIds: [] };
  return markProcessed(db, scope, { owner: "sender", maxTries: 10, ...nothing, ...results });
}

function resultsOf(notificationId: string, userIds: string[], result: Result = "sent", code = ""): RecipientResult[] {
  return userIds.map((userId) => ({ notificationId, userId, result, code, retryAfterSeconds: 0 }));
}

async function ledger(db: Db): Promise<Record<string, string | null>> {
  const rows = await db.select().from(recipients);
  return Object.fromEntries(rows.map(({ userId, outcome }) => [userId, outcome]));
}

async function processedEvents(db: Db): Promise<NotificationProcessed[]> {
  const isProcessed = eq(feedOutbox.type, NotificationProcessedSchema.typeName);
  const rows = await db.select().from(feedOutbox).where(isProcessed).orderBy(asc(feedOutbox.id));
  return rows.map(({ payload }) => fromBinary(NotificationProcessedSchema, payload));
}

test("outcomes are stored for each recipient and told once for each notification", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob, cid] = newIds(3) as [string, string, string];
  const first = await notify(db, [ann, bob]);
  const second = await notify(db, [cid]);
  const leaseToken = await take(db);
  const results = [
    ...resultsOf(first, [ann]),
    ...resultsOf(first, [bob], "no_device"),
    ...resultsOf(second, [cid], "failed"),
  ];
  assert.equal(await mark(db, { leaseToken, results }), 3);
  assert.deepEqual(await ledger(db), { [ann]: "sent", [bob]: "no_device", [cid]: "failed" });
  const events = await processedEvents(db);
  const told = new Map(events.map(({ notificationId, userIds }) => [notificationId, [...userIds].sort()]));
  assert.equal(events.length, 2);
  assert.deepEqual(told.get(first), [ann, bob]);
  assert.deepEqual(told.get(second), [cid]);
});

test("S-NOT-04 marking twice changes nothing, under whichever token", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(2);
  const id = await notify(db, users);
  const leaseToken = await take(db);
  const results = resultsOf(id, users);
  assert.equal(await mark(db, { leaseToken, results }), 2);
  const [before] = await db.select().from(recipients);
  assert.equal(await mark(db, { leaseToken, results }), 0);
  assert.equal(await mark(db, { leaseToken, results: resultsOf(id, users, "failed") }), 0);
  assert.equal(await mark(db, { leaseToken: crypto.randomUUID(), results, owner: "other" }), 0);
  assert.equal(await mark(db, { leaseToken, notificationIds: [id] }), 0);
  assert.deepEqual((await db.select().from(recipients))[0], before);
  assert.equal((await processedEvents(db)).length, 1);
});

test("S-NOT-04 duplicates count once, and two outcomes for one recipient are refused", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [user] = newIds(1) as [string];
  const id = await notify(db, [user]);
  const leaseToken = await take(db);
  const contradiction = [...resultsOf(id, [user]), ...resultsOf(id.toUpperCase(), [user], "failed")];
  await assert.rejects(
    () => mark(db, { leaseToken, results: contradiction }),
    (error) => reasonOf(error) === "INVALID_REQUEST",
  );
  const results = [...resultsOf(id, [user]), ...resultsOf(id, [user.toUpperCase()])];
  assert.equal(await mark(db, { leaseToken, results, notificationIds: [id, id, id.toUpperCase()] }), 1);
  assert.deepEqual(
    (await processedEvents(db)).map(({ userIds }) => userIds),
    [[user]],
  );
});

test("S-NOT-04 a foreign token or owner marks nothing, not even what would be in order", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(2);
  const id = await notify(db, users);
  const leaseToken = await take(db);
  const results = resultsOf(id, users);
  const stranger = [...results, ...resultsOf(id, newIds(1))];
  for (const wrong of [
    { leaseToken: crypto.randomUUID(), results },
    { leaseToken: undefined, results },
    { leaseToken, results, owner: "other" },
    { leaseToken, results: stranger },
    { leaseToken, results: [...results, ...resultsOf(crypto.randomUUID(), users)] },
    { leaseToken, results, notificationIds: [crypto.randomUUID()] },
    { leaseToken: crypto.randomUUID(), notificationIds: [id] },
    { leaseToken: undefined, notificationIds: [id] },
    { leaseToken, notificationIds: [id], owner: "other" },
  ]) {
    await assert.rejects(() => mark(db, wrong), leaseLost);
  }
  assert.deepEqual(Object.values(await ledger(db)), [null, null]);
  assert.deepEqual(await processedEvents(db), []);
  assert.equal(await mark(db, { leaseToken, results }), 2);
});

test("who marks late is refused once somebody else has taken it, and not before", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const users = newIds(3);
  const id = await notify(db, users);
  const late = await take(db);
  await setOffset(31_000);
  const fresh = await take(db);
  await assert.rejects(() => mark(db, { leaseToken: late, results: resultsOf(id, users.slice(0, 1)) }), leaseLost);
  assert.equal(await mark(db, { leaseToken: fresh, results: resultsOf(id, users.slice(0, 1)) }), 1);

  // The lease has run out again, but nobody took what is left: to refuse it would only have it pushed twice.
  await setOffset(62_000);
  assert.equal(await mark(db, { leaseToken: fresh, results: resultsOf(id, users.slice(1)) }), 2);
});

test("a list of ids marks what ListUnprocessed leased to this caller", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(4);
  const [whole, part] = [await notify(db, users), await notify(db, users)];
  const listed = await listUnprocessed(db, scope, { owner: "backend", limit: 1 });
  assert.deepEqual(
    listed.map(({ notificationId }) => notificationId),
    [whole],
  );
  const claimed = await claim(db, scope, { owner: "sender", limit: 1, leaseSeconds: 30 });
  assert.deepEqual(
    claimed.notifications.map(({ notificationId }) => notificationId),
    [part],
  );
  await listUnprocessed(db, scope, { owner: "backend", limit: 1 });

  // Of the second notification one recipient is the sender's: it stays the sender's.
  const byBackend = { owner: "backend", notificationIds: [whole, part] };
  assert.equal(await mark(db, byBackend), 7);
  assert.equal(await mark(db, byBackend), 0);
  const userIds = claimed.notifications[0]!.userIds;
  const byOther = { owner: "other", notificationIds: [part] };
  await assert.rejects(() => mark(db, byOther), leaseLost);
  assert.equal(await mark(db, { leaseToken: claimed.lease?.token, results: resultsOf(part, userIds, "failed") }), 1);
  assert.equal(await mark(db, byOther), 0);
});

test("an outcome stands before the list of ids", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const id = await notify(db, [ann, bob]);
  const leaseToken = await take(db);
  assert.equal(await mark(db, { leaseToken, notificationIds: [id], results: resultsOf(id, [ann], "no_device") }), 2);
  assert.deepEqual(await ledger(db), { [ann]: "no_device", [bob]: "sent" });
});

test("dead devices go only if a marked recipient still owns them", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const register = (userId: string, token: string) => registerDevice(db, scope, { userId, token, platform: "android" });
  const dead = await register(ann, "dead");
  const moved = await register(ann, "moved");
  const foreign = await register(bob, "foreign");
  const good = await register(ann, "good");
  const id = await notify(db, [ann]);
  const leaseToken = await take(db);
  await register(bob, "moved");
  const told = { results: resultsOf(id, [ann]), deadDeviceIds: [dead, dead, moved, foreign, crypto.randomUUID()] };

  await assert.rejects(() => mark(db, { ...told, leaseToken: crypto.randomUUID() }), leaseLost);
  assert.equal(await db.$count(devices), 4);
  await mark(db, { ...told, leaseToken });
  const left = await db.select({ id: devices.id }).from(devices);
  assert.deepEqual(left.map((device) => device.id).sort(), [moved, foreign, good].sort());
});

test("20 markers of one lease at once: marked once, told once", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(50);
  const id = await notify(db, users);
  const leaseToken = await take(db);
  const marking = Array.from({ length: 20 }, (_, index) => {
    const inOtherOrder = index % 2 === 0 ? users : users.toReversed();
    return mark(db, { leaseToken, results: resultsOf(id, inOtherOrder) });
  });
  const counts = await Promise.all(marking);
  assert.deepEqual(counts.toSorted((a, b) => b - a).slice(0, 2), [50, 0]);
  assert.equal((await processedEvents(db)).length, 1);
});
