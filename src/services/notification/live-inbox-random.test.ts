/** Inboxes as they change, at random: a stream loses nothing, wherever it is cut, and tells nobody else. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Db } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { until } from "../../testing/until.ts";
import { listInbox, markRead, markReceived } from "./inbox.ts";
import { cursorOf, type LiveInbox } from "./live-inbox.ts";
import { type Open, opened, openInboxes } from "./live-inbox-testing.ts";
import { cancel, newIds, notify, scope } from "./testing.ts";

/** A client that keeps what it was told, and its cursor. */
class Reader {
  readonly kept = new Map<string, string>();
  readonly userId: string;
  #stream: Open | undefined;
  #cursor = "";

  constructor(userId: string) {
    this.userId = userId;
  }

  async connect(db: Db, inbox: LiveInbox): Promise<void> {
    await this.cut();
    this.#stream = await opened(inbox, this.userId, this.#cursor);
    if (this.#cursor === "") for (const [id, state] of await inboxOf(db, this.userId)) this.kept.set(id, state);
  }

  /** Forgets part of what has arrived, as a client does whose connection breaks. */
  async cut(portion = 1): Promise<void> {
    if (!this.#stream) return;
    await this.#stream.cut();
    const { messages } = this.#stream;
    const arrived = messages.slice(0, Math.max(1, Math.round(messages.length * portion)));
    this.#cursor = cursorOf(arrived.at(-1)!.place);
    for (const { change } of arrived) {
      assert.notEqual(change, "resync");
      if (change === undefined || change === "resync") continue;
      assert.equal(change.userId, this.userId);
      if (change.entry) this.kept.set(change.notificationId, stateOf(change.entry));
      else this.kept.delete(change.notificationId);
    }
    this.#stream = undefined;
  }
}

function stateOf({ text, receivedAt, readAt }: { text: string; receivedAt: Date | null; readAt: Date | null }): string {
  return JSON.stringify({ text, receivedAt, readAt });
}

async function inboxOf(db: Db, userId: string): Promise<Map<string, string>> {
  const states = new Map<string, string>();
  for (let pageToken = ""; ; ) {
    const page = await listInbox(db, { userId, unreadOnly: false, pageSize: 100, pageToken });
    for (const entry of page.entries) states.set(entry.notificationId, stateOf(entry));
    pageToken = page.nextPageToken;
    if (pageToken === "") return states;
  }
}

test("1,000 random changes, with streams cut and resumed at random places and processes: what was told is the inbox", async () => {
  await using service = await openInboxes();
  const { db, inbox, openProcess } = service;
  const processes = [inbox, openProcess().inbox];
  const random = (below: number) => Math.floor(Math.random() * below);
  const readers = newIds(3).map((id) => new Reader(id));
  for (const reader of readers) await reader.connect(db, processes[random(2)]!);
  const made: string[] = [];
  const change = async (number: number) => {
    const notificationId = made[random(made.length)];
    const userId = readers[random(3)]!.userId;
    const kind = random(4);
    if (kind === 0 || notificationId === undefined) {
      const userIds = readers.filter(() => random(2) === 0).map((reader) => reader.userId);
      made.push(await notify(db, userIds.length === 0 ? [userId] : userIds, `text ${number}`));
    } else if (kind === 1) await cancel(db, notificationId);
    else if (kind === 2) await markReceived(db, scope, { notificationId, userId }).catch(ignoreMissing);
    else await markRead(db, scope, { notificationIds: [notificationId], userId }).catch(ignoreMissing);
  };
  for (let number = 0; number < 1_000; number += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, index) => change(number + index)));
    if (random(2) > 0) continue;
    const reader = readers[random(3)]!;
    await reader.cut(Math.random());
    await reader.connect(db, processes[random(2)]!);
  }
  for (const reader of readers) {
    const expected = await inboxOf(db, reader.userId);
    await until("the reader has it all", async () => {
      await reader.connect(db, processes[0]!);
      return isSame(reader.kept, expected);
    }).catch(() => assert.deepEqual(reader.kept, expected));
    await reader.cut();
  }
});

function isSame(one: Map<string, string>, other: Map<string, string>): boolean {
  return one.size === other.size && [...one].every(([id, state]) => other.get(id) === state);
}

function ignoreMissing(error: unknown): void {
  assert.equal(reasonOf(error), "NOTIFICATION_NOT_FOUND");
}
