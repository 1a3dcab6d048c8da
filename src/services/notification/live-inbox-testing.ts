/** What tests of streams of inboxes stand on: processes of the service on one database, and clients that read all they are sent. */
import assert from "node:assert/strict";
import { afterEach } from "node:test";
import { systemClock } from "../../clock.ts";
import { connect } from "../../db/connection.ts";
import { openDatabase } from "../../db/database.ts";
import { FeedLog } from "../../feed/log.ts";
import { startJobs } from "../../jobs.ts";
import { createLogger } from "../../log.ts";
import { type TestDatabase, testDatabase } from "../../testing/cluster.ts";
import { until } from "../../testing/until.ts";
import type { InboxMessage } from "./inbox-stream.ts";
import { cursorOf, LiveInbox } from "./live-inbox.ts";

/** Of all processes. */
export const logLines: string[] = [];
const destination = { write: (line: string) => void logLines.push(line) };
const log = createLogger({ level: "warn", mode: "development", clock: systemClock, destination });

/** A service's database with one process on it, or more. */
export async function openInboxes() {
  await using opened = new AsyncDisposableStack();
  const database = opened.use(await testDatabase(["platform", "notification"]));
  const admin = connect(database.ownerUrl, { applicationName: "test" });
  opened.defer(() => admin.end());
  const process = startProcess(database, opened);
  const resources = opened.move();
  return {
    ...process,
    admin,
    openProcess: (options?: { keepAliveMs: number }) => startProcess(database, resources, options),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function startProcess(
  { runtimeUrl: url }: TestDatabase,
  opened: AsyncDisposableStack,
  options?: { keepAliveMs: number },
) {
  const { db } = opened.use(openDatabase({ url, poolSize: 8, applicationName: "test" }));
  const feed = opened.use(new FeedLog({ service: "notification", url, db, log }));
  feed.begin();
  const inbox = new LiveInbox({ db, feed, ...options });
  opened.use(startJobs([inbox.job()], log));
  return { db, feed, inbox };
}

/** Of all clients: one that a failed test leaves behind would keep the process alive. */
const connections = new Set<AbortController>();
afterEach(() => connections.forEach((connection) => void connection.abort()));

/** A client that reads all it is sent, until it is cut. */
export function open(inbox: LiveInbox, userId: string, cursor = "") {
  const cutting = new AbortController();
  connections.add(cutting);
  const messages: InboxMessage[] = [];
  const over = (async () => {
    for await (const message of inbox.watch({ userId, cursor }, cutting.signal)) messages.push(message);
  })().catch((error: unknown) => error);
  return {
    messages,
    over,
    /** What was told so far, as words. */
    told: () => messages.map(tell),
    cursor: () => cursorOf(messages.at(-1)!.place),
    async cut(): Promise<void> {
      cutting.abort(new Error("cut"));
      assert.equal(((await over) as Error).message, "cut");
    },
  };
}

export type Open = ReturnType<typeof open>;

function tell({ change }: InboxMessage): string {
  if (change === undefined || change === "resync") return change ?? "nothing";
  const { entry } = change;
  if (!entry) return "cancelled";
  return `${entry.text}${entry.receivedAt ? " received" : ""}${entry.readAt ? " read" : ""}`;
}

export async function opened(inbox: LiveInbox, userId: string, cursor?: string): Promise<Open> {
  const stream = open(inbox, userId, cursor);
  await until("the first message", () => stream.messages.length > 0);
  return stream;
}

export const hasTold = (stream: Open, words: string) => until(words, () => stream.told().includes(words));
