/** What a person is given of what notification stores about them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { registerDevice } from "./devices.ts";
import { exportInbox } from "./exports.ts";
import { listInbox, markRead } from "./inbox.ts";
import { muteTopic } from "./muted-topics.ts";
import { newIds, notify, openTestDatabase, scope, store } from "./testing.ts";

test("an export has devices, muted topics, and what every notification says and when it was read", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [userId, other] = newIds(2) as [string, string];
  await registerDevice(db, scope, { userId, token: "token of the phone", platform: "web" });
  for (const topic of ["orders", "news"]) await muteTopic(db, scope, { userId, topic });
  const organizationId = crypto.randomUUID();
  const notificationId = await notify(db, [userId, other], "hello", { topic: "news", organizationId });
  await notify(db, [other], "not for her");
  await markRead(db, scope, { userId, notificationIds: [notificationId] });
  const [entry] = (await listInbox(db, { userId, unreadOnly: false, pageSize: 0, pageToken: "" })).entries;

  const documents = [];
  for await (const document of exportInbox(db, userId)) documents.push(JSON.parse(document));
  const [{ devices, mutedTopics }, { notifications }, ...more] = documents;
  assert.deepEqual(more, []);
  assert.deepEqual([devices[0].tokenEnd, devices[0].token, mutedTopics], ["he phone", undefined, ["news", "orders"]]);
  assert.deepEqual(notifications, [{ ...JSON.parse(JSON.stringify(entry)), processedAt: null, outcome: null }]);
  assert.deepEqual([entry?.topic, entry?.organizationId, entry?.readAt !== null], ["news", organizationId, true]);
});

test("a part of an export stays below 4 MiB, however long the inbox and whatever its texts hold", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [userId] = newIds(1) as [string];
  const waiting = Array.from({ length: 201 }, () => ({ userIds: [userId], text: "\u0001".repeat(4_000) }));
  await store(db, waiting);
  const sizes: number[] = [];
  for await (const document of exportInbox(db, userId)) {
    sizes.push(JSON.parse(document).notifications?.length ?? 0);
    assert.ok(Buffer.byteLength(JSON.stringify({ document })) < 4 * 1024 * 1024);
  }
  assert.deepEqual(sizes, [0, 100, 100, 1]);
});
