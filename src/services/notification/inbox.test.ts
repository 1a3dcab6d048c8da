/** Inboxes against a real database: one's own notifications only, marked once, and as cheap for those who have many. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, type ConnectError } from "@connectrpc/connect";
import { asc, sql } from "drizzle-orm";
import { type Db, openDatabase, transaction } from "../../db/database.ts";
import { asAdmin } from "../../db/provision.ts";
import { type Reason, reasonOf } from "../../errors.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { countUnread, listInbox, markRead, markReceived } from "./inbox.ts";
import { notifications, recipients } from "./schema.ts";
import { cancel, newIds, notify, openTestDatabase, scope } from "./testing.ts";

const list = (db: Db, userId: string, request: { pageSize?: number; pageToken?: string; unreadOnly?: boolean } = {}) =>
  listInbox(db, { userId, pageSize: 0, pageToken: "", unreadOnly: false, ...request });

async function allPages(db: Db, userId: string, pageSize: number, unreadOnly = false) {
  const pages: string[][] = [];
  for (let pageToken = ""; ; ) {
    const { entries, nextPageToken } = await list(db, userId, { pageSize, pageToken, unreadOnly });
    pages.push(entries.map(({ text }) => text));
    pageToken = nextPageToken;
    if (pageToken === "") return pages;
  }
}

function refused(code: Code, reason: Reason) {
  return (error: ConnectError) => {
    assert.deepEqual([Code[error.code], reasonOf(error)], [Code[code], reason]);
    return true;
  };
}
const notFound = refused(Code.NotFound, "NOTIFICATION_NOT_FOUND");

/** What was published of marking, by its short name, in order. */
async function told(db: Db): Promise<string[]> {
  const events = await db.select().from(feedOutbox).orderBy(asc(feedOutbox.id));
  return events.map(({ type }) => type.split(".").at(-1)!).filter((type) => /Read$|Received$/.test(type));
}

/** Gives a person that many notifications more, without a word. */
async function fill(db: Db, userId: string, count: number): Promise<void> {
  await db.execute(sql`
    with made as (
      insert into ${notifications} (id, title, text, data, expires_at)
      select gen_random_uuid(), '', repeat('x', 200), '{}', concierge_now() from generate_series(1, ${count}::integer) returning id
    )
    insert into ${recipients} (notification_id, user_id) select id, ${userId} from made`);
}

/** Rows that this takes from tables. */
function rowsRead(db: Db, look: (db: Db) => Promise<unknown>): Promise<number> {
  return transaction(db, async (tx) => {
    const count = async () => {
      const [read] = await tx.execute<{ rows: number }>(sql`
        select sum(seq_tup_read + idx_tup_fetch)::integer as rows from pg_stat_xact_user_tables`);
      return read!.rows;
    };
    const before = await count();
    await look(tx as unknown as Db);
    return (await count()) - before;
  });
}

test("an inbox holds one's own notifications, newest first, page by page", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  for (const text of ["1", "2", "3", "4", "5"]) await notify(db, [ann, bob], text);
  await notify(db, [bob], "6");
  assert.deepEqual(await allPages(db, ann, 2), [["5", "4"], ["3", "2"], ["1"]]);
  assert.deepEqual(await allPages(db, ann, 5), [["5", "4", "3", "2", "1"]]);
  assert.deepEqual(await allPages(db, bob, 0), [["6", "5", "4", "3", "2", "1"]]);

  const organizationId = crypto.randomUUID();
  const said = { title: "Hi {{name}}", data: { order: "42" }, topic: "orders", organizationId };
  const notificationId = await notify(db, [ann], "\u202e<b>%s</b>", { ...said, isUrgent: true });
  const [{ createdAt, ...entry } = assert.fail()] = (await list(db, ann)).entries;
  assert.ok(createdAt instanceof Date);
  const shown = { notificationId, ...said, text: "\u202e<b>%s</b>", priority: "high", receivedAt: null, readAt: null };
  assert.deepEqual(entry, shown);
});

test("S-API-12 a page has 50 entries unless asked for fewer or more, 100 at most", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann] = newIds(1) as [string];
  for (let count = 0; count < 101; count++) await notify(db, [ann]);
  const sizes = async (pageSize: number) => (await allPages(db, ann, pageSize)).map(({ length }) => length);
  assert.deepEqual(await sizes(0), [50, 50, 1]);
  assert.deepEqual(await sizes(51), [51, 50]);
  for (const pageSize of [100, 101, 2 ** 31 - 1]) assert.deepEqual(await sizes(pageSize), [100, 1], String(pageSize));
});

test("a page token of another person, another filter or nobody is refused", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  for (const text of ["1", "2"]) await notify(db, [ann, bob], text);
  const { nextPageToken } = await list(db, ann, { pageSize: 1 });
  const invalid = refused(Code.InvalidArgument, "INVALID_PAGE_TOKEN");
  await assert.rejects(list(db, bob, { pageToken: nextPageToken }), invalid);
  await assert.rejects(list(db, ann, { pageToken: nextPageToken, unreadOnly: true }), invalid);
  for (const pageToken of ["x", ann, `${nextPageToken}A`]) await assert.rejects(list(db, ann, { pageToken }), invalid);
});

test("what is unread is listed and counted, up to 1,000", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const ids = [await notify(db, [ann, bob], "1"), await notify(db, [ann, bob], "2"), await notify(db, [ann], "3")];
  await markRead(db, scope, { userId: ann, notificationIds: [ids[1]!] });
  assert.deepEqual(await allPages(db, ann, 1, true), [["3"], ["1"]]);
  assert.deepEqual(await countUnread(db, ann), { count: 2, isMore: false });
  assert.deepEqual(await countUnread(db, bob), { count: 2, isMore: false });
  await cancel(db, ids[2]!);
  assert.deepEqual(
    [await allPages(db, ann, 0, true), await countUnread(db, ann)],
    [[["1"]], { count: 1, isMore: false }],
  );
  assert.deepEqual(await allPages(db, ann, 0), [["2", "1"]]);

  await fill(db, bob, 998);
  assert.deepEqual(await countUnread(db, bob), { count: 1_000, isMore: false });
  await notify(db, [bob]);
  assert.deepEqual(await countUnread(db, bob), { count: 1_000, isMore: true });
});

test("S-NOT-01 somebody else's notification, one that does not exist and one taken back are told apart by nothing", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const hers = await notify(db, [ann]);
  const gone = await notify(db, [bob]);
  await cancel(db, gone);
  const answers: unknown[] = [];
  for (const notificationId of [hers, crypto.randomUUID(), gone]) {
    for (const marking of [
      () => markReceived(db, scope, { notificationId, userId: bob }),
      () => markRead(db, scope, { notificationIds: [notificationId], userId: bob }),
    ]) {
      await assert.rejects(marking, (error: ConnectError) => {
        answers.push([error.code, error.rawMessage, error.details]);
        return notFound(error);
      });
    }
  }
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
  assert.deepEqual(await told(db), []);
});

test("S-NOT-02 marked received by 100 calls at once: one time, one event", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [userId] = newIds(1) as [string];
  const notificationId = await notify(db, [userId]);
  const calls = Array.from({ length: 100 }, (_, index) =>
    markReceived(db, scope, {
      userId,
      notificationId: index % 2 === 0 ? notificationId : notificationId.toUpperCase(),
    }),
  );
  const times = new Set((await Promise.all(calls)).map((time) => time.getTime()));
  assert.equal(times.size, 1);
  await database.setOffset(60_000);
  times.add((await markReceived(db, scope, { userId, notificationId })).getTime());
  times.add((await list(db, userId)).entries[0]!.receivedAt!.getTime());
  assert.equal(times.size, 1);
  assert.deepEqual(await told(db), ["NotificationReceived"]);
});

test("marked read by 100 calls at once, in any order: one time, each told once, and received with it", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [userId] = newIds(1) as [string];
  const ids = [await notify(db, [userId]), await notify(db, [userId]), await notify(db, [userId])];
  const receivedAt = await markReceived(db, scope, { userId, notificationId: ids[0]! });
  await database.setOffset(60_000);
  const calls = Array.from({ length: 100 }, (_, index) => {
    const some = index % 2 === 0 ? ids : [...ids].reverse().map((id) => id.toUpperCase());
    return markRead(db, scope, { userId, notificationIds: [...some, some[0]!] });
  });
  await Promise.all(calls);
  const { entries } = await list(db, userId);
  assert.equal(new Set(entries.map(({ readAt }) => readAt!.getTime())).size, 1);
  assert.deepEqual(
    entries.map((entry) => entry.receivedAt!.getTime() === entry.readAt!.getTime()),
    [true, true, false],
  );
  assert.deepEqual(entries[2]!.receivedAt, receivedAt);
  await database.setOffset(120_000);
  await markRead(db, scope, { userId, notificationIds: ids });
  assert.deepEqual((await list(db, userId)).entries, entries);
  const events = await told(db);
  assert.equal(events.filter((type) => type === "NotificationRead").length, 3);
  assert.equal(events.filter((type) => type === "NotificationReceived").length, 3);
});

test("all are marked read, or none", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const [hers, his] = [await notify(db, [ann]), await notify(db, [bob])];
  await assert.rejects(markRead(db, scope, { userId: ann, notificationIds: [hers, his] }), notFound);
  assert.equal((await list(db, ann)).entries[0]?.readAt, null);
  assert.deepEqual(await told(db), []);
});

test("who has 20,000 notifications pays for what is shown or counted, as everybody does", async () => {
  await using opened = new AsyncDisposableStack();
  const { ownerUrl, runtimeUrl } = opened.use(await testDatabase(["platform", "notification"]));
  const { db } = opened.use(openDatabase({ url: runtimeUrl, poolSize: 1, applicationName: "test" }));
  const [few, many] = newIds(2) as [string, string];
  await fill(db, few, 100);
  await fill(db, many, 20_000);
  await asAdmin(ownerUrl, (owner) => owner`analyze recipients, notifications`);
  for (const userId of [few, many]) {
    // A page of 50 and one more, each from two tables, and what counting them takes.
    for (const unreadOnly of [false, true]) {
      assert.ok((await rowsRead(db, (tx) => list(tx, userId, { unreadOnly }))) < 110);
    }
    assert.ok((await rowsRead(db, (tx) => countUnread(tx, userId))) < 1_010);
  }
});
