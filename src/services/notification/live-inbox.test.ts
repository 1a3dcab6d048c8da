/** Inboxes as they change, against a real database and its feed: what a stream tells, where it goes on, how it ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, type ConnectError } from "@connectrpc/connect";
import { reasonOf } from "../../errors.ts";
import { until } from "../../testing/until.ts";
import { listInbox, markRead, markReceived } from "./inbox.ts";
import { InboxStream } from "./inbox-stream.ts";
import { cursorOf } from "./live-inbox.ts";
import { hasTold, logLines, type Open, open, opened, openInboxes } from "./live-inbox-testing.ts";
import { cancel, newIds, notify, scope } from "./testing.ts";

test("a stream tells at once where it begins, then each change as it is now, and nothing of others", async () => {
  await using service = await openInboxes();
  const { db, inbox } = service;
  const [ann, bob] = newIds(2) as [string, string];
  const [hers, his] = [await opened(inbox, ann), await opened(inbox, bob)];
  assert.deepEqual(hers.told(), ["nothing"]);
  const both = await notify(db, [ann, bob], "both");
  await hasTold(hers, "both");
  await markReceived(db, scope, { notificationId: both, userId: ann });
  await hasTold(hers, "both received");
  await markRead(db, scope, { notificationIds: [both], userId: ann });
  await hasTold(hers, "both received read");
  await cancel(db, await notify(db, [ann], "mistake"));
  await hasTold(hers, "cancelled");
  await notify(db, [bob], "last");
  await hasTold(his, "last");
  assert.deepEqual(his.told(), ["nothing", "both", "last"]);
  const [, message] = his.messages;
  const listed = await listInbox(db, { userId: bob, unreadOnly: false, pageSize: 0, pageToken: "" });
  assert.deepEqual((message!.change as { entry: unknown }).entry, listed.entries[1]);
  await hers.cut();
  await his.cut();
  assert.equal(inbox.size, 0);
});

test("a stream goes on after its cursor, in any process, with all that came since and nothing from before", async () => {
  await using service = await openInboxes();
  const { db, inbox, openProcess } = service;
  const [ann] = newIds(1) as [string];
  const first = await opened(inbox, ann);
  await notify(db, [ann], "1");
  await hasTold(first, "1");
  await first.cut();
  const missed = [await notify(db, [ann], "2"), await notify(db, [ann], "3")];
  await markRead(db, scope, { notificationIds: missed.slice(0, 1), userId: ann });
  const other = openProcess();
  for (const process of [inbox, other.inbox]) {
    const second = open(process, ann, first.cursor());
    await until("what was missed", () => second.messages.length === 3);
    assert.deepEqual(second.told(), ["nothing", "3", "2 received read"]);
    const third = open(process, ann, cursorOf(second.messages[1]!.place));
    await hasTold(third, "2 received read");
    assert.deepEqual(third.told(), ["nothing", "2 received read"]);
    await second.cut();
    await third.cut();
  }
});

test("a cursor that the feed cannot go on from begins with a resync, and what is no cursor is refused", async () => {
  await using service = await openInboxes();
  const { db, inbox, admin } = service;
  const [ann] = newIds(1) as [string];
  const { cursor, messages, cut } = await opened(inbox, ann);
  const { epoch } = messages[0]!.place;
  const start = cursor();
  await notify(db, [ann], "old");
  await until("it was told", () => messages.length === 2);
  await cut();
  const lost = [`0123456789abcdef-0`, `${epoch}-999999999999999999`, start];
  await admin`select feed_trim(now() + interval '1 hour', 1000)`;
  await notify(db, [ann], "new");
  for (const cursor of lost) {
    const stream = await opened(inbox, ann, cursor);
    assert.equal(stream.told()[0], "resync", cursor);
    await notify(db, [ann], `after ${cursor}`);
    await hasTold(stream, `after ${cursor}`);
    await stream.cut();
  }
  for (const cursor of [
    "x",
    epoch,
    `${epoch}-`,
    `${epoch}--1`,
    `${epoch}-1x`,
    `${epoch}-${"1".repeat(19)}`,
    ` ${start}`,
  ]) {
    const refused = (await open(inbox, ann, cursor).over) as ConnectError;
    assert.deepEqual([refused.code, reasonOf(refused)], [Code.InvalidArgument, "INVALID_CURSOR"], cursor);
  }
  assert.equal(inbox.size, 0);
});

test("a cursor that is more than 2,000 events back begins with a resync", async () => {
  await using service = await openInboxes();
  const { db, inbox, admin } = service;
  const [ann] = newIds(1) as [string];
  const stream = await opened(inbox, ann);
  await stream.cut();
  await admin`
    insert into feed_outbox (type, subject, version, payload) select 'other', 'other', n, '' from generate_series(1, 2_001) n`;
  await notify(db, [ann], "last");
  await until("it was read", async () => {
    const again = await opened(inbox, ann, stream.cursor());
    await again.cut();
    return again.told()[0] === "resync";
  });
});

test("whoever is too slow is told to list the inbox again, once, and goes on", async () => {
  const stream = new InboxStream();
  const placeOf = (position: number) => ({ epoch: "epoch", position: BigInt(position) });
  const queued = (position: number) => ({
    place: placeOf(position),
    change: { position: BigInt(position), ...nothing },
  });
  const nothing = { userId: "ann", notificationId: "one", entry: undefined };
  for (let position = 1; position <= 1_000; position++) stream.push(queued(position));
  assert.deepEqual(await stream.next(0), queued(1));
  for (let position = 1_001; position <= 1_005; position++) stream.push(queued(position));
  assert.deepEqual(await stream.next(0), { place: placeOf(1_002), change: "resync" });
  for (const position of [1_003, 1_004, 1_005]) assert.deepEqual(await stream.next(0), queued(position));
  assert.equal(await stream.next(0), undefined);
});

test("an eleventh stream of a person ends the oldest one", async () => {
  await using service = await openInboxes();
  const { inbox } = service;
  const [ann, bob] = newIds(2) as [string, string];
  const his = await opened(inbox, bob);
  const hers: Open[] = [];
  for (let count = 0; count < 11; count++) hers.push(await opened(inbox, ann));
  const ended = (await hers[0]!.over) as ConnectError;
  assert.deepEqual([ended.code, reasonOf(ended)], [Code.ResourceExhausted, "TOO_MANY_STREAMS"]);
  assert.equal(inbox.size, 11);
  for (const stream of [his, ...hers.slice(1)]) await stream.cut();
  assert.equal(inbox.size, 0);
});

test("of 60 streams that go on from an old cursor at once, 10 do, and the others are told nothing", async () => {
  await using service = await openInboxes();
  const { db, inbox } = service;
  const [ann] = newIds(1) as [string];
  const first = await opened(inbox, ann);
  const start = first.cursor();
  for (let count = 1; count <= 20; count++) await notify(db, [ann], `${count}`);
  await hasTold(first, "20");
  await first.cut();
  const streams = Array.from({ length: 60 }, () => open(inbox, ann, start));
  for (const stream of streams.slice(-10)) await hasTold(stream, "20");
  assert.equal(inbox.size, 10);
  for (const stream of streams.slice(0, 50)) {
    assert.equal(reasonOf(await stream.over), "TOO_MANY_STREAMS");
    assert.deepEqual(stream.told(), []);
  }
  for (const stream of streams.slice(-10)) await stream.cut();
});

test("a stream that is ended while it catches up tells nothing more", async () => {
  await using service = await openInboxes();
  const { db, inbox } = service;
  const [ann] = newIds(1) as [string];
  const first = await opened(inbox, ann);
  const cursor = first.cursor();
  for (const text of ["1", "2", "3"]) await notify(db, [ann], text);
  await hasTold(first, "3");
  await first.cut();
  const slow = inbox.watch({ userId: ann, cursor }, new AbortController().signal);
  for (let count = 0; count < 2; count++) assert.equal((await slow.next()).done, false);
  const newer: Open[] = [];
  for (let count = 0; count < 10; count++) newer.push(await opened(inbox, ann));
  await assert.rejects(slow.next(), (error) => reasonOf(error) === "TOO_MANY_STREAMS");
  for (const stream of newer) await stream.cut();
});

test("a stream that has ended keeps nothing of what it was to tell", async () => {
  const stream = new InboxStream();
  stream.push({ place: { epoch: "epoch", position: 1n } });
  stream.end(new Error("over"));
  stream.push({ place: { epoch: "epoch", position: 2n } });
  assert.equal(stream.size, 0);
  assert.equal(stream.signal.aborted, true);
  await assert.rejects(stream.next(0), { message: "over" });
});

test("while nothing happens a message comes all the same, and its cursor moves on", async () => {
  await using service = await openInboxes();
  const { db, openProcess } = service;
  const { inbox } = openProcess({ keepAliveMs: 20 });
  const [ann, bob] = newIds(2) as [string, string];
  const stream = await opened(inbox, ann);
  const start = stream.messages[0]!.place.position;
  await notify(db, [bob], "not hers");
  await until("the cursor moves", () => stream.messages.some(({ place }) => place.position > start));
  assert.ok(stream.told().every((words) => words === "nothing"));
  await stream.cut();
});

test("streams outlive a feed that begins anew and a database that does not answer", async () => {
  await using service = await openInboxes();
  const { db, inbox, admin } = service;
  const [ann] = newIds(1) as [string];
  const stream = await opened(inbox, ann);
  await admin`update feed_state set restores = restores + 1`;
  await hasTold(stream, "resync");
  await notify(db, [ann], "after the restore");
  await hasTold(stream, "after the restore");
  // The event is read, and what it is about cannot be looked up.
  await admin`alter table recipients rename column received_at to elsewhere`;
  await notify(db, [ann], "during the fault");
  await until("the fault", () => logLines.some((line) => line.includes("live inbox")));
  await admin`alter table recipients rename column elsewhere to received_at`;
  await hasTold(stream, "during the fault");
  assert.deepEqual(stream.told(), ["nothing", "resync", "after the restore", "during the fault"]);
  await stream.cut();
});
