/** Leases against a real database: who gets what, for how long, and that nobody gets what another holds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Db } from "../../db/database.ts";
import { claim, listUnprocessed } from "./leases.ts";
import { recipients } from "./schema.ts";
import { newIds, notify, openTestDatabase, scope, store } from "./testing.ts";

function take(db: Db, limit = 0, options: { owner?: string; leaseSeconds?: number } = {}) {
  return claim(db, scope, { owner: options.owner ?? "sender", limit, leaseSeconds: options.leaseSeconds ?? 0 });
}

const list = (db: Db, limit = 0, owner = "backend") => listUnprocessed(db, scope, { owner, limit });

function pairsOf(notifications: { notificationId: string; userIds: string[] }[]): string[] {
  return notifications.flatMap(({ notificationId, userIds }) => userIds.map((userId) => `${notificationId} ${userId}`));
}

test("a claim takes what has waited longest, with what to say", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const users = newIds(3);
  const said = { title: "Hi", text: "one", data: { order: "42" }, isUrgent: true };
  const [first] = await store(db, [{ ...said, userIds: users.slice(0, 1) }]);
  await setOffset(1_000);
  const [second] = await store(db, [{ text: "two", userIds: users }]);

  const { notifications, lease } = await take(db, 2);
  const [urgent, normal] = notifications;
  assert.ok(lease && urgent && normal && urgent.expiresAt < normal.expiresAt);
  const { isUrgent, ...content } = said;
  const ofFirst = { notificationId: first, ...content, userIds: users.slice(0, 1), priority: "high", traceparent: "" };
  assert.deepEqual(urgent, { ...ofFirst, expiresAt: urgent.expiresAt });
  assert.deepEqual([normal.notificationId, normal.text, normal.userIds.length], [second, "two", 1]);

  const rest = await take(db, 3);
  assert.deepEqual(
    [...pairsOf(rest.notifications), `${second} ${normal.userIds[0]}`].sort(),
    users.map((id) => `${second} ${id}`),
  );
  assert.notEqual(rest.lease?.token, lease.token);
  assert.deepEqual(await take(db), { notifications: [] });
});

test("four claimers at once take each of 500 recipients exactly once", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(50);
  for (let i = 0; i < 10; i++) await notify(db, users);
  const claimers = Array.from({ length: 4 }, async () => {
    const pairs: string[] = [];
    for (;;) {
      const { notifications } = await take(db, 20);
      if (notifications.length === 0) return pairs;
      pairs.push(...pairsOf(notifications));
    }
  });
  const claimed = (await Promise.all(claimers)).flat();
  assert.equal(claimed.length, 500);
  assert.equal(new Set(claimed).size, 500);
});

test("a lease lasts as long as was asked for, by the database's clock, and is then taken again", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await notify(db, newIds(3));
  const first = await take(db, 0, { leaseSeconds: 60 });
  await setOffset(50_000);
  assert.deepEqual((await take(db)).notifications, []);
  await setOffset(61_000);
  const second = await take(db);
  assert.deepEqual(second.notifications, first.notifications);
  assert.ok(second.lease && first.lease && second.lease.expiresAt > first.lease.expiresAt);
});

test("a lease is 30 seconds unless asked otherwise", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await notify(db, newIds(1));
  await take(db);
  await setOffset(20_000);
  assert.equal((await take(db)).notifications.length, 0);
  await setOffset(31_000);
  assert.equal((await take(db)).notifications.length, 1);
});

test("R-NOT-18 what ListUnprocessed returned is nobody else's for 30 seconds, and the reverse", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const notificationId = await notify(db, newIds(10));
  const claimed = pairsOf((await take(db, 4)).notifications);
  const listed = pairsOf(await list(db));
  assert.equal(claimed.length, 4);
  assert.equal(listed.length, 6);
  assert.equal(new Set([...claimed, ...listed]).size, 10);
  assert.deepEqual([await list(db), await list(db, 0, "other"), (await take(db)).notifications], [[], [], []]);

  await setOffset(31_000);
  const [again] = await list(db);
  assert.equal(again?.notificationId, notificationId);
  assert.equal(again.userIds.length, 10);
});

test("R-NOT-18 listing and claiming at once never hand out one recipient twice", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  for (let i = 0; i < 20; i++) await notify(db, newIds(20));
  const handedOut: string[] = [];
  async function drain(next: () => Promise<string[]>) {
    for (let pairs = await next(); pairs.length > 0; pairs = await next()) handedOut.push(...pairs);
  }
  const claiming = async () => pairsOf((await take(db, 15)).notifications);
  const listing = async () => pairsOf(await list(db, 1));
  await Promise.all([drain(claiming), drain(listing), drain(claiming), drain(listing)]);
  assert.equal(handedOut.length, 400);
  assert.equal(new Set(handedOut).size, 400);
});

test("a list counts notifications, and the oldest come first", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(5);
  const ids = [await notify(db, users, "one"), await notify(db, users, "two"), await notify(db, users, "three")];
  const listed = await list(db, 2);
  assert.deepEqual(
    listed.map(({ notificationId, text, userIds }) => ({ notificationId, text, userIds })),
    [
      { notificationId: ids[0], text: "one", userIds: users },
      { notificationId: ids[1], text: "two", userIds: users },
    ],
  );
  assert.deepEqual(
    pairsOf(await list(db, 2)),
    users.map((userId) => `${ids[2]} ${userId}`),
  );
});

test("a list holds at most 10,000 recipients; the rest comes with the next", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  await notify(db, newIds(6_000));
  await notify(db, newIds(6_000));
  assert.deepEqual(
    (await list(db)).map(({ userIds }) => userIds.length),
    [6_000, 4_000],
  );
  assert.deepEqual(
    (await list(db)).map(({ userIds }) => userIds.length),
    [2_000],
  );
  assert.equal((await db.select().from(recipients)).length, 12_000);
});
