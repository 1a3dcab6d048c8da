/** Deleted accounts against a real database: nothing is pushed any more, nothing that was for them alone is kept. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eq } from "drizzle-orm";
import { type Db, transaction } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import { removeAccount } from "./accounts.ts";
import { redriveDeadLetters } from "./dead-letters.ts";
import { registerDevice } from "./devices.ts";
import { claim, listUnprocessed } from "./leases.ts";
import { markProcessed } from "./results.ts";
import { deadLetters, deliveries, devices, mutedTopics, notifications, recipients } from "./schema.ts";
import { newIds, notify, openTestDatabase, scope } from "./testing.ts";

function register(db: Db, userId: string) {
  return registerDevice(db, scope, { userId, token: `token of ${userId}`, platform: "web" });
}

function remove(db: Db, userId: string): Promise<void> {
  return transaction(db, async (tx) => void (await emit(tx, await removeAccount(tx, userId))));
}

async function textOf(db: Db, notificationId: string) {
  return (await db.select().from(notifications).where(eq(notifications.id, notificationId)))[0]!.text;
}

async function ledger(db: Db): Promise<Record<string, string | null>> {
  const rows = await db.select().from(recipients);
  return Object.fromEntries(rows.map(({ userId, outcome }) => [userId, outcome]));
}

test("devices and what was said to nobody else are gone; what others were told stays theirs", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  for (const userId of [ann, bob]) await register(db, userId);
  const [hers, both] = [await notify(db, [ann], "hers"), await notify(db, [ann, bob], "both")];

  await remove(db, ann);
  await remove(db, ann);

  assert.deepEqual(
    (await db.select().from(devices)).map(({ userId }) => userId),
    [bob],
  );
  assert.deepEqual([await textOf(db, hers), await textOf(db, both)], ["", "both"]);
  assert.deepEqual(await ledger(db), { [ann]: "no_device", [bob]: null });
  const waiting = await listUnprocessed(db, scope, { owner: "backend", limit: 10 });
  assert.deepEqual(
    waiting.map(({ userIds }) => userIds),
    [[bob]],
  );
  await remove(db, bob);
  assert.equal(await textOf(db, both), "");
});

test("what waited for a person, what was given up, and what that person had muted is gone", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  await db.insert(mutedTopics).values([ann, bob].map((userId) => ({ userId, topic: "offers" })));
  const notificationId = await notify(db, [ann, bob]);
  const { lease } = await claim(db, scope, { owner: "sender", limit: 10, leaseSeconds: 30 });
  const failed = { result: "failed" as const, code: "", retryAfterSeconds: 0 };
  const results = [ann, bob].map((userId) => ({ notificationId, userId, ...failed }));
  const told = { owner: "sender", leaseToken: lease!.token, notificationIds: [], results, deadDeviceIds: [] };
  await markProcessed(db, scope, { ...told, maxTries: 10 });
  await notify(db, [ann, bob]);

  await remove(db, ann);
  for (const table of [deliveries, deadLetters, mutedTopics]) {
    assert.deepEqual(
      (await db.select({ userId: table.userId }).from(table)).map(({ userId }) => userId),
      [bob],
    );
  }
  assert.equal(await redriveDeadLetters(db, scope, { notificationId: "", code: "" }), 1);
});

test("a sender that holds a lease on a deleted person tells of its batch in order, and nothing of it is pushed again", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const notificationId = await notify(db, [ann, bob]);
  const owner = "sender";
  const { lease } = await claim(db, scope, { owner, limit: 10, leaseSeconds: 30 });
  await remove(db, ann);
  const sent = { result: "sent" as const, code: "", retryAfterSeconds: 0 };
  const results = [ann, bob].map((userId) => ({ notificationId, userId, ...sent }));
  const told = { owner, leaseToken: lease!.token, notificationIds: [], results, deadDeviceIds: [], maxTries: 10 };
  assert.equal(await markProcessed(db, scope, told), 1);
  assert.deepEqual(await ledger(db), { [ann]: "no_device", [bob]: "sent" });
  await database.setOffset(60_000);
  assert.deepEqual((await claim(db, scope, { owner, limit: 10, leaseSeconds: 30 })).notifications, []);
});

test("a device that is registered while the account is being deleted does not stay, and none is after", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  for (let round = 0; round < 20; round++) {
    const userId = crypto.randomUUID();
    await Promise.all([register(db, userId).catch(() => {}), remove(db, userId)]);
    assert.equal(await db.$count(devices), 0, `round ${round}`);
    await assert.rejects(register(db, userId), (error) => reasonOf(error) === "UNAUTHENTICATED");
  }
});

test("a device that comes to its new owner while the former one is deleted stays", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const phone = { token: "phone", platform: "ios" } as const;
  await registerDevice(db, scope, { userId: ann, ...phone });
  await registerDevice(db, scope, { userId: bob, ...phone });
  await remove(db, ann);
  assert.deepEqual(
    (await db.select().from(devices)).map(({ userId }) => userId),
    [bob],
  );
});

test("a notification that is being stored while an account is deleted is forgotten with it, and none is kept after", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  for (let round = 0; round < 10; round++) {
    const [userId] = newIds(1) as [string];
    const [, notificationId] = await Promise.all([remove(db, userId), notify(db, [userId], "hers")]);
    assert.equal(await textOf(db, notificationId), "");
  }
  await remove(db, ann);
  const [hers, both] = [await notify(db, [ann], "hers"), await notify(db, [ann, bob], "both")];
  assert.deepEqual([await textOf(db, hers), await textOf(db, both)], ["", "both"]);
  assert.deepEqual((await ledger(db))[bob], null);
  assert.ok(!(ann in (await ledger(db))));
});
