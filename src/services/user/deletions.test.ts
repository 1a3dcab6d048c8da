/** Deleted profiles against a real database: whatever comes late, and in whatever order, does not make one again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { asc } from "drizzle-orm";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import { type Db, openDatabase, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { deleteProfile, storeProfile } from "./profiles.ts";
import { artists, profiles } from "./schema.ts";

async function openTestDatabase() {
  await using opened = new AsyncDisposableStack();
  const { runtimeUrl: url } = opened.use(await testDatabase(["platform", "user"]));
  const { db } = opened.use(openDatabase({ url, poolSize: 4, applicationName: "test" }));
  const resources = opened.move();
  return { db, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

async function store(db: Db, userId: string): Promise<boolean> {
  const person = {
    email: "ann@example.com",
    firstName: "Ann",
    lastName: "Lee",
    locale: "en",
    kind: AccountKind.ARTIST,
    stageName: "Ann",
  };
  return transaction(db, async (tx) => {
    const { profile, events } = await storeProfile(tx, { userId, ...person, createdAt: new Date(0) });
    await emit(tx, events);
    return profile !== undefined;
  });
}

function remove(db: Db, userId: string): Promise<void> {
  return transaction(db, async (tx) => void (await emit(tx, await deleteProfile(tx, userId))));
}

async function told(db: Db): Promise<string[]> {
  const events = await db.select({ type: feedOutbox.type }).from(feedOutbox).orderBy(asc(feedOutbox.id));
  return events.map(({ type }) => type.split(".").at(-1)!);
}

async function assertTombstone(db: Db, userId: string): Promise<void> {
  const [row, ...others] = await db.select().from(profiles);
  assert.deepEqual(others, []);
  const { createdAt: _, updatedAt: __, deletedAt, ...rest } = row!;
  assert.ok(deletedAt);
  const nothing = { kind: "user", email: "", firstName: "", lastName: "", locale: "" };
  assert.deepEqual(rest, { userId, ...nothing });
  assert.deepEqual(await db.select().from(artists), []);
}

test("a deleted profile keeps its id only, and is told of once, however often the event comes", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const userId = crypto.randomUUID();
  assert.equal(await store(db, userId), true);
  await remove(db, userId);
  assert.equal(await store(db, userId), false);
  await remove(db, userId);
  await assertTombstone(db, userId);
  assert.deepEqual(await told(db), ["ArtistCreated", "UserDeleted"]);
});

test("a registration that comes after the deletion makes no profile", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const userId = crypto.randomUUID();
  await remove(db, userId);
  assert.equal(await store(db, userId), false);
  await assertTombstone(db, userId);
  assert.deepEqual(await told(db), ["UserDeleted"]);
});

test("a first read that has asked auth before the deletion, and stores after or beside it, makes no profile that stays", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  for (let round = 0; round < 20; round++) {
    const userId = crypto.randomUUID();
    await db.delete(profiles);
    await Promise.all(
      round % 2 === 0 ? [store(db, userId), remove(db, userId)] : [remove(db, userId), store(db, userId)],
    );
    await assertTombstone(db, userId);
  }
  const events = await told(db);
  assert.equal(events.filter((type) => type === "UserDeleted").length, 20);
});
