/** What notification stores about a person, for that person to keep; in parts, because an inbox grows for years. */
import { and, desc, eq, lt } from "drizzle-orm";
import type { Db } from "../../db/database.ts";
import { listDevices } from "./devices.ts";
import { content } from "./inbox.ts";
import { listMutedTopics } from "./muted-topics.ts";
import { notifications, recipients } from "./schema.ts";

/** A part stays below 4 MiB, whatever its texts hold: a byte of them may take seven, written as JSON within JSON. */
const PAGE_SIZE = 100;

/**
 * The JSON documents of ExportMyData: devices and muted topics, then notifications, newest first; also those that were taken back,
 * as long as they are stored.
 */
export async function* exportInbox(db: Db, userId: string): AsyncGenerator<string> {
  yield JSON.stringify({ devices: await listDevices(db, userId), mutedTopics: await listMutedTopics(db, userId) });
  for (let before: string | undefined; ; ) {
    const page = await readPage(db, userId, before);
    if (page.length > 0) yield JSON.stringify({ notifications: page });
    if (page.length < PAGE_SIZE) return;
    before = page.at(-1)!.notificationId;
  }
}

function readPage(db: Db, userId: string, before: string | undefined) {
  const isNext = before === undefined ? undefined : lt(recipients.notificationId, before);
  const { notificationId, processedAt, outcome, receivedAt, readAt } = recipients;
  return db
    .select({ notificationId, ...content, processedAt, outcome, receivedAt, readAt })
    .from(recipients)
    .innerJoin(notifications, eq(notifications.id, recipients.notificationId))
    .where(and(eq(recipients.userId, userId), isNext))
    .orderBy(desc(recipients.notificationId))
    .limit(PAGE_SIZE);
}
