/** Whose turn it is: no queue waits for another one, what is urgent goes first, and what ends its senders is isolated and given up. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eq } from "drizzle-orm";
import type { Db } from "../../db/database.ts";
import { registerDevice } from "./devices.ts";
import { type Claim, claim, extendLease, listUnprocessed } from "./leases.ts";
import { markProcessed } from "./results.ts";
import { deadLetters, deliveries, mutedTopics, recipients } from "./schema.ts";
import { newIds, notify, openTestDatabase, scope, store } from "./testing.ts";

const LEASE_SECONDS = 30;
const AFTER_LEASE_MS = 31_000;

const take = (db: Db, limit = 500) => claim(db, scope, { owner: "sender", limit, leaseSeconds: LEASE_SECONDS });

const usersOf = ({ notifications }: Claim) => notifications.flatMap(({ userIds }) => userIds);

function recipientsOf({ notifications }: Claim) {
  return notifications.flatMap(({ notificationId, userIds }) => userIds.map((userId) => ({ notificationId, userId })));
}

function tell(db: Db, claimed: Claim, result: "sent" | "not_tried") {
  const results = recipientsOf(claimed).map((each) => ({ ...each, result, code: "", retryAfterSeconds: 0 }));
  const told = { owner: "sender", leaseToken: claimed.lease!.token, results, notificationIds: [], deadDeviceIds: [] };
  return markProcessed(db, scope, { ...told, maxTries: 10 });
}

async function outcomes(db: Db): Promise<Record<string, string | null>> {
  const rows = await db.select().from(recipients);
  return Object.fromEntries(rows.map(({ userId, outcome }) => [userId, outcome]));
}

test("R-NOT-14 an organization that queues one recipient behind another one's 20,000 has it in the next claim", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [loud, quiet] = newIds(2);
  await store(db, [{ organizationId: loud, userIds: newIds(20_000) }]);
  await take(db, 100);
  const [mine] = await store(db, [{ organizationId: quiet, userIds: newIds(1) }]);
  const { notifications } = await take(db, 100);
  assert.ok(notifications.some(({ notificationId }) => notificationId === mine));
  assert.equal(usersOf({ notifications }).length, 51);
});

test("R-NOT-14 authors without an organization take turns: behind another one's 1,000 one is in the next claim", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const loud = await notify(db, newIds(1_000), "loud", { author: "backend loud" });
  const quiet = await notify(db, newIds(1), "quiet", { author: "backend quiet" });
  const { notifications } = await take(db, 100);
  assert.deepEqual(
    notifications.map(({ notificationId, userIds }) => [notificationId, userIds.length]),
    [
      [loud, 50],
      [quiet, 1],
    ],
  );
});

test("a claim is filled from a thousand queues of one, and each is served once", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  await store(
    db,
    newIds(1_000).map((organizationId) => ({ organizationId, userIds: newIds(1) })),
  );
  const claims = [await take(db), await take(db), await take(db)];
  assert.deepEqual(
    claims.map((each) => usersOf(each).length),
    [500, 500, 0],
  );
  assert.equal(new Set(claims.flatMap(usersOf)).size, 1_000);
});

test("within a queue what is urgent goes first, then what has waited longest", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const [old, late, urgent] = newIds(3) as [string, string, string];
  await store(db, [{ userIds: [old] }]);
  await setOffset(1_000);
  await store(db, [{ userIds: [late] }, { userIds: [urgent], isUrgent: true }]);
  assert.deepEqual(
    [usersOf(await take(db, 1)), usersOf(await take(db, 1)), usersOf(await take(db, 1))],
    [[urgent], [old], [late]],
  );
});

test("R-NOT-16 what was taken twice without a word is handed out alone, and given up after three times", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const users = newIds(3);
  await store(db, [{ userIds: users }]);
  for (const round of [0, 1]) {
    assert.equal(usersOf(await take(db)).length, 3);
    await setOffset((round + 1) * AFTER_LEASE_MS);
  }
  const [fresh] = newIds(1) as [string];
  await store(db, [{ userIds: [fresh] }]);

  // Two are sent once they are alone, the third one ends its sender each time.
  const poison = users[1]!;
  const alone: string[] = [];
  for (let round = 2; round < 12; round++) {
    const claimed = await take(db);
    const [user, ...others] = usersOf(claimed);
    if (user === undefined) break;
    assert.deepEqual(others, []);
    alone.push(user);
    if (user === poison) await setOffset((round + 1) * AFTER_LEASE_MS);
    else await tell(db, claimed, "sent");
  }
  assert.deepEqual(alone.toSorted(), [...users, fresh, poison, poison].sort());
  assert.deepEqual(await outcomes(db), {
    [users[0]!]: "sent",
    [poison]: "failed",
    [users[2]!]: "sent",
    [fresh]: "sent",
  });
  const dead = await db.select().from(deadLetters);
  assert.deepEqual(
    dead.map(({ userId, code, failedTries }) => ({ userId, code, failedTries })),
    [{ userId: poison, code: "gave-up", failedTries: 0 }],
  );
});

test("R-NOT-16 suspects are never handed out with others, and hold nobody up", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const suspects = new Set(newIds(60));
  await store(db, [{ userIds: [...suspects] }]);
  for (const round of [1, 2]) {
    await take(db);
    await setOffset(round * AFTER_LEASE_MS);
  }
  await store(db, [{ userIds: newIds(60) }]);
  const sizes: number[] = [];
  for (let round = 0; round < 40 && !(sizes.includes(1) && sizes.includes(10)); round++) {
    const users = usersOf(await take(db, 10));
    sizes.push(users.length);
    assert.deepEqual(
      users.map((user) => suspects.has(user)),
      users.length === 1 ? [true] : Array(10).fill(false),
    );
    if (users.length === 10) await store(db, [{ userIds: newIds(10) }]);
  }
  assert.ok(sizes.includes(1) && sizes.includes(10), sizes.join());
});

test("R-NOT-16 a word about a recipient, even that it was not tried, ends the suspicion", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await store(db, [{ userIds: newIds(2) }]);
  for (let round = 1; round <= 6; round++) {
    const claimed = await take(db);
    assert.equal(usersOf(claimed).length, 2, `round ${round}`);
    if (round % 2 === 0) await tell(db, claimed, "not_tried");
    else await setOffset(round * AFTER_LEASE_MS);
  }
});

test("what is too old or of a muted topic is processed by whoever comes by it, and handed to nobody", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const [ann, bob] = newIds(2) as [string, string];
  await db.insert(mutedTopics).values([{ userId: ann, topic: "offers" }]);
  await store(db, [{ userIds: [ann, bob], topic: "offers" }]);
  const claimed = await take(db);
  assert.deepEqual(usersOf(claimed), [bob]);
  assert.deepEqual(await outcomes(db), { [ann]: "muted", [bob]: null });
  assert.equal(await tell(db, claimed, "sent"), 1);

  const [cid] = newIds(1) as [string];
  await store(db, [{ userIds: [cid], ttlSeconds: 60 }]);
  await setOffset(61_000);
  assert.deepEqual(await listUnprocessed(db, scope, { owner: "backend", limit: 0 }), []);
  assert.deepEqual(await outcomes(db), { [ann]: "muted", [bob]: "sent", [cid]: "expired" });
  assert.equal(await db.$count(deliveries), 0);
  assert.equal(await db.$count(deadLetters), 0);
});

test("a claim that comes by nothing but what is too old goes on to what is not", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  await store(db, [{ userIds: newIds(50), ttlSeconds: 1 }]);
  await setOffset(2_000);
  const [mine] = await store(db, [{ userIds: newIds(1) }]);
  const { notifications } = await take(db, 10);
  assert.deepEqual(
    notifications.map(({ notificationId }) => notificationId),
    [mine],
  );
});

test("S-NOT-10 whatever is created and claimed, each recipient is handed out with what was said to them, once", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const organizations = [undefined, ...newIds(4)];
  const people = newIds(30);
  const pick = (count: number) => Math.floor(Math.random() * count);
  const expected = new Map<string, string>();
  const seen = new Set<string>();
  async function create() {
    const batch = Array.from({ length: 1 + pick(5) }, () => {
      const said = crypto.randomUUID();
      const organizationId = organizations[pick(organizations.length)];
      const userIds = people.filter(() => Math.random() < 0.3);
      const content = { title: `title ${said}`, text: `text ${said}`, data: { said }, isUrgent: Math.random() < 0.3 };
      return { ...content, userIds, ...(organizationId && { organizationId }) };
    });
    const ids = await store(db, batch);
    for (const [index, id] of ids.entries()) {
      for (const userId of batch[index]!.userIds) expected.set(`${id} ${userId}`, batch[index]!.data.said);
    }
  }
  async function check() {
    const { notifications } = await take(db, 1 + pick(60));
    for (const { notificationId, userIds, title, text, data } of notifications) {
      for (const userId of userIds) {
        const recipient = `${notificationId} ${userId}`;
        const said = expected.get(recipient);
        assert.deepEqual({ title, text, data }, { title: `title ${said}`, text: `text ${said}`, data: { said } });
        assert.ok(!seen.has(recipient));
        seen.add(recipient);
      }
    }
    return notifications.length > 0;
  }
  for (let round = 0; round < 25; round++) {
    await create();
    await Promise.all([check(), check()]);
  }
  while (await check());
  assert.deepEqual([...seen].sort(), [...expected.keys()].sort());
});

test("S-NOT-13 a lease that is prolonged tells devices as they are now, and only what is still under it", async () => {
  await using database = await openTestDatabase();
  const { db, setOffset } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const [first, second] = (await store(db, [{ userIds: [ann] }, { userIds: [bob] }])) as [string, string];
  const phone = { token: "phone", platform: "ios" } as const;
  const deviceId = await registerDevice(db, scope, { userId: ann, ...phone });
  const claimed = await take(db);
  const extend = () => extendLease(db, scope, { owner: "sender", token: claimed.lease!.token, leaseSeconds: 60 });
  const before = await extend();
  const byUser = (a: { userId: string }, b: { userId: string }) => (a.userId < b.userId ? -1 : 1);
  assert.deepEqual(before.recipients.toSorted(byUser), [
    { notificationId: first, userId: ann, devices: [{ deviceId, token: "phone" }] },
    { notificationId: second, userId: bob, devices: [] },
  ]);

  await registerDevice(db, scope, { userId: bob, ...phone });
  await db.delete(deliveries).where(eq(deliveries.userId, ann));
  await setOffset(45_000);
  assert.deepEqual(await take(db), { notifications: [] });
  const after = await extend();
  assert.ok(after.expiresAt.getTime() - before.expiresAt.getTime() >= 45_000);
  assert.deepEqual(after.recipients, [
    { notificationId: second, userId: bob, devices: [{ deviceId, token: "phone" }] },
  ]);
});
