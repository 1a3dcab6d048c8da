/** What became of recipients, as their author reads it, against a real database. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { and, eq } from "drizzle-orm";
import { type Reason, reasonOf } from "../../errors.ts";
import { ANYBODY } from "./callers.ts";
import { cancelNotification } from "./cancellations.ts";
import { listRecipients } from "./recipients.ts";
import { deliveries, recipients } from "./schema.ts";
import { newIds, notify, openTestDatabase, scope } from "./testing.ts";

const FATES = [
  [{ outcome: "sent" }, "sent", ""],
  [{ outcome: "no_device" }, "failed", "no-device"],
  [{ outcome: "muted" }, "failed", "muted"],
  [{ outcome: "expired" }, "failed", "expired"],
  [{ outcome: "failed", code: "messaging/server-unavailable" }, "failed", "messaging/server-unavailable"],
  [{ outcome: "failed", code: "gave-up" }, "failed", "gave-up"],
  [{ outcome: "cancelled" }, "cancelled", ""],
  [{ outcome: null }, "pending", ""],
] as const;

const because = (reason: Reason) => (error: unknown) => reasonOf(error) === reason;

test("each recipient's state, with the reason of what was not sent, in the order of ids and page by page", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const userIds = newIds(FATES.length);
  const notificationId = await notify(db, userIds);
  await notify(db, userIds);
  for (const [index, [fate]] of FATES.entries()) {
    if (fate.outcome === null) continue;
    const isOne = and(eq(recipients.notificationId, notificationId), eq(recipients.userId, userIds[index]!));
    await db.update(recipients).set(fate).where(isOne);
  }
  const seen: [string, string, string][] = [];
  const sizes: number[] = [];
  for (let pageToken = "", isLast = false; !isLast; ) {
    // However the id is spelt.
    const request = { notificationId: notificationId.toUpperCase(), pageSize: 3, pageToken, author: ANYBODY };
    const page = await listRecipients(db, scope, request);
    seen.push(...page.entries.map(({ userId, state, code }) => [userId, state, code] as [string, string, string]));
    sizes.push(page.entries.length);
    pageToken = page.nextPageToken;
    isLast = pageToken === "";
  }
  assert.deepEqual(sizes, [3, 3, 2]);
  assert.deepEqual(
    seen,
    FATES.map(([, state, code], index) => [userIds[index], state, code]),
  );
});

test("tries are told while it is tried, and after", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [ann, bob] = newIds(2) as [string, string];
  const notificationId = await notify(db, [ann, bob]);
  await db.update(deliveries).set({ failedTries: 4 }).where(eq(deliveries.userId, ann));
  await db.delete(deliveries).where(eq(deliveries.userId, bob));
  await db.update(recipients).set({ outcome: "sent", failedTries: 2 }).where(eq(recipients.userId, bob));
  const { entries } = await listRecipients(db, scope, { notificationId, author: ANYBODY, pageSize: 0, pageToken: "" });
  assert.deepEqual(
    entries.map(({ failedTries }) => failedTries),
    [4, 2],
  );
});

test("a backend's notification does not exist for another backend", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const notificationId = await notify(db, newIds(1), "hello", { author: "backend one" });
  const asAuthor = (author: string) => ({ notificationId, author, pageSize: 0, pageToken: "" });
  assert.equal((await listRecipients(db, scope, asAuthor("backend one"))).entries.length, 1);
  for (const author of ["backend two", "service one", ""]) {
    await assert.rejects(listRecipients(db, scope, asAuthor(author)), because("NOTIFICATION_NOT_FOUND"));
    await assert.rejects(cancelNotification(db, scope, { notificationId, author }), because("NOTIFICATION_NOT_FOUND"));
  }
});

test("a notification that does not exist, and a page token of another list", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const [one, other] = [await notify(db, newIds(2)), await notify(db, newIds(2))];
  const { nextPageToken: pageToken } = await listRecipients(db, scope, {
    notificationId: one,
    author: ANYBODY,
    pageSize: 1,
    pageToken: "",
  });
  const list = (notificationId: string, token: string) =>
    listRecipients(db, scope, { notificationId, author: ANYBODY, pageSize: 1, pageToken: token });
  assert.equal((await list(one, pageToken)).entries.length, 1);
  await assert.rejects(list(other, pageToken), because("INVALID_PAGE_TOKEN"));
  await assert.rejects(list(crypto.randomUUID(), ""), because("NOTIFICATION_NOT_FOUND"));
});
