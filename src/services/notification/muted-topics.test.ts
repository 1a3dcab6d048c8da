/** Muted topics against a real database: each once, each person's own, never more than 100. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { reasonOf } from "../../errors.ts";
import { listMutedTopics, muteTopic, unmuteTopic } from "./muted-topics.ts";
import { deletedAccounts } from "./schema.ts";
import { newIds, openTestDatabase, scope } from "./testing.ts";

test("a topic is muted once, for one person, until it is not", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  for (const topic of ["orders", "news", "orders"]) await muteTopic(db, scope, { userId: ann, topic });
  assert.deepEqual([await listMutedTopics(db, ann), await listMutedTopics(db, bob)], [["news", "orders"], []]);
  await unmuteTopic(db, { userId: bob, topic: "news" });
  await unmuteTopic(db, { userId: ann, topic: "orders" });
  await unmuteTopic(db, { userId: ann, topic: "orders" });
  assert.deepEqual(await listMutedTopics(db, ann), ["news"]);
});

test("100 topics can be muted, however many are asked for at once, and those that are stay so", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [userId] = newIds(1) as [string];
  const mutes = Array.from({ length: 110 }, (_, number) => muteTopic(db, scope, { userId, topic: `topic-${number}` }));
  const refusals = (await Promise.allSettled(mutes)).flatMap((mute) =>
    mute.status === "rejected" ? [mute.reason] : [],
  );
  assert.deepEqual(
    refusals.map(reasonOf),
    Array.from({ length: 10 }, () => "TOO_MANY_MUTED_TOPICS"),
  );
  const topics = await listMutedTopics(db, userId);
  assert.equal(topics.length, 100);
  await muteTopic(db, scope, { userId, topic: topics[0]! });
});

test("who is deleted mutes nothing any more", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [userId] = newIds(1) as [string];
  await db.insert(deletedAccounts).values({ userId });
  await assert.rejects(
    muteTopic(db, scope, { userId, topic: "news" }),
    (error) => reasonOf(error) === "UNAUTHENTICATED",
  );
  assert.deepEqual(await listMutedTopics(db, userId), []);
});
