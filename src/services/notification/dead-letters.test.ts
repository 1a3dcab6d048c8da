/** Dead letters and the state of the queue against a real database: what was given up is found, and can be tried again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { asc } from "drizzle-orm";
import type { Db } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { pageTokenOf } from "../../page-tokens.ts";
import { listDeadLetters, redriveDeadLetters } from "./dead-letters.ts";
import { claim } from "./leases.ts";
import { readQueueStatus, watchQueue } from "./queue-status.ts";
import { markProcessed, type Result } from "./results.ts";
import { deadLetters, deliveries, recipients } from "./schema.ts";
import { newIds, openTestDatabase, scope, store } from "./testing.ts";

const ALL = { notificationId: "", code: "" };

/** Takes everything, and says the same of each. */
async function tellAll(db: Db, result: Result, code = "", limit = 500) {
  const { lease, notifications } = await claim(db, scope, { owner: "sender", limit, leaseSeconds: 30 });
  const told = { result, code, retryAfterSeconds: 0 };
  const results = notifications.flatMap(({ notificationId, userIds }) => {
    return userIds.map((userId) => ({ notificationId, userId, ...told }));
  });
  const nothing = { notificationIds: [], deadDeviceIds: [], maxTries: 10 };
  await markProcessed(db, scope, { owner: "sender", leaseToken: lease!.token, results, ...nothing });
}

async function listAll(db: Db, code = "") {
  const found: string[] = [];
  for (let pageToken = ""; ; ) {
    const page = await listDeadLetters(db, { code, pageSize: 7, pageToken });
    found.push(...page.entries.map(({ userId }) => userId));
    pageToken = page.nextPageToken;
    if (pageToken === "") return found;
  }
}

test("dead letters are listed in pages, the last one first, of one code or of all", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const [organizationId, ...users] = newIds(21) as [string, ...string[]];
  const [first] = await store(db, [{ organizationId, userIds: users.slice(0, 10) }]);
  await tellAll(db, "failed", "messaging/invalid-argument");
  await setOffset(1_000);
  await store(db, [{ userIds: users.slice(10) }]);
  await tellAll(db, "failed");

  const { entries, nextPageToken } = await listDeadLetters(db, { code: "", pageSize: 0, pageToken: "" });
  assert.equal(nextPageToken, "");
  const letter = {
    userId: users[0]!,
    code: "messaging/invalid-argument",
    failedTries: 1,
    diedAt: entries.at(-1)!.diedAt,
  };
  assert.deepEqual(entries.at(-1), { notificationId: first!, organizationId, ...letter });
  assert.equal(entries[0]!.organizationId, "");
  assert.deepEqual(await listAll(db), users.toReversed());
  assert.deepEqual(await listAll(db, "rejected"), users.slice(10).reverse());

  const { nextPageToken: token } = await listDeadLetters(db, { code: "", pageSize: 7, pageToken: "" });
  const refused = (error: unknown) => reasonOf(error) === "INVALID_PAGE_TOKEN";
  await assert.rejects(listDeadLetters(db, { code: "rejected", pageSize: 7, pageToken: token }), refused);
  const forged = pageTokenOf(["dead letters", ""], ["1"]);
  await assert.rejects(listDeadLetters(db, { code: "", pageSize: 7, pageToken: forged }), refused);
});

test("what is redriven begins anew, wakes senders, and is no dead letter any more", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const users = newIds(3);
  const [first, second] = await store(db, [
    { userIds: users.slice(0, 2), isUrgent: true },
    { userIds: users.slice(2) },
  ]);
  await tellAll(db, "failed");
  assert.equal(await redriveDeadLetters(db, scope, { notificationId: second!, code: "other" }), 0);
  assert.equal(await redriveDeadLetters(db, scope, { notificationId: first!, code: "rejected" }), 2);
  assert.deepEqual(await listAll(db), users.slice(2));
  const rows = await db.select().from(recipients).orderBy(asc(recipients.userId));
  assert.deepEqual(
    rows.map(({ outcome, code, failedTries, processedAt }) => [outcome, code, failedTries, processedAt !== null]),
    [
      [null, null, 0, false],
      [null, null, 0, false],
      ["failed", "rejected", 1, true],
    ],
  );
  const [last] = (await db.select().from(feedOutbox).orderBy(asc(feedOutbox.id))).slice(-1);
  assert.match(last!.type, /NotificationCreated$/);
  assert.equal(last!.subject, `notification/${first}`);
  const [row] = await db.select().from(deliveries);
  assert.deepEqual([row!.rank, row!.failedTries, row!.claims, row!.leaseOwner], [0, 0, 0, null]);

  await tellAll(db, "sent");
  assert.equal(await redriveDeadLetters(db, scope, ALL), 1);
  assert.equal(await redriveDeadLetters(db, scope, ALL), 0);
});

test("1,000 are redriven at a call, the oldest first, and what is too old to be pushed stays dead", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await store(db, [{ userIds: newIds(2), ttlSeconds: 60 }]);
  await tellAll(db, "failed", "expiring");
  await store(db, [{ userIds: newIds(1_010) }]);
  for (let round = 0; round < 3; round++) await tellAll(db, "failed", `round-${round}`);
  await setOffset(61_000);
  const counts = await Promise.all([redriveDeadLetters(db, scope, ALL), redriveDeadLetters(db, scope, ALL)]);
  const total = counts[0] + counts[1] + (await redriveDeadLetters(db, scope, ALL));
  assert.ok(Math.max(...counts) <= 1_000);
  assert.equal(total, 1_010);
  assert.equal(await db.$count(deliveries), 1_010);
  const left = await db.select({ code: deadLetters.code }).from(deadLetters);
  assert.deepEqual(left, [{ code: "expiring" }, { code: "expiring" }]);
});

test("the state of the queue tells what waits, is being pushed, waits for another try, and was given up", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const { gauges, job } = watchQueue(db);
  const refresh = async () => {
    await job.run(new AbortController().signal);
    return gauges.map(({ read }) => Math.round(read()));
  };
  assert.deepEqual(await refresh(), [0, 0, 0]);
  const nothing = { pending: 0, leased: 0, waitingForRetry: 0, oldestAgeSeconds: 0, oldestCreatedAt: undefined };
  assert.deepEqual(await readQueueStatus(db), { ...nothing, deadByCode: {} });

  const before = new Date();
  await store(db, [{ userIds: newIds(6) }]);
  await tellAll(db, "failed", "", 1);
  await tellAll(db, "retry", "", 2);
  await claim(db, scope, { owner: "sender", limit: 1, leaseSeconds: 30 });
  const { oldestCreatedAt, oldestAgeSeconds, ...counts } = await readQueueStatus(db);
  assert.deepEqual(counts, { pending: 5, leased: 1, waitingForRetry: 2, deadByCode: { rejected: 1 } });
  assert.ok(oldestCreatedAt && Math.abs(oldestCreatedAt.getTime() - before.getTime()) < 5_000);
  await setOffset(600_000);
  const [pending, age, dead] = await refresh();
  assert.ok(age! >= 600 && age! < 620);
  assert.deepEqual([pending, dead], [5, 1]);
});
