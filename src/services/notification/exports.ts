/** What notification stores about a person, for that person to keep; in parts, because an inbox grows for years. */
import { and, asc, desc, eq, lt } from "drizzle-orm";
import type { Db } from "../../db/database.ts";
import { devices, notifications, recipients } from "./schema.ts";

const PAGE_SIZE = 500;
/** Enough to tell devices apart; a whole token would let its finder push to the device. */
const SHOWN_OF_TOKEN = 8;

/** The JSON documents of ExportMyData: devices, then notifications, newest first. */
export async function* exportInbox(db: Db, userId: string): AsyncGenerator<string> {
  yield JSON.stringify({ devices: await readDevices(db, userId) });
  for (let before: string | undefined; ; ) {
    const page = await readPage(db, userId, before);
    if (page.length > 0) yield JSON.stringify({ notifications: page });
    if (page.length < PAGE_SIZE) return;
    before = page.at(-1)!.notificationId;
  }
}

async function readDevices(db: Db, userId: string) {
  const { id: deviceId, token, platform, createdAt, lastSeenAt } = devices;
  const found = await db
    .select({ deviceId, token, platform, createdAt, lastSeenAt })
    .from(devices)
    .where(eq(devices.userId, userId))
    .orderBy(asc(devices.id));
  return found.map(({ token, ...device }) => ({ ...device, tokenEnd: token.slice(-SHOWN_OF_TOKEN) }));
}

function readPage(db: Db, userId: string, before: string | undefined) {
  const isNext = before === undefined ? undefined : lt(recipients.notificationId, before);
  const { notificationId, processedAt, outcome, receivedAt } = recipients;
  const { title, text, data, createdAt } = notifications;
  return db
    .select({ notificationId, title, text, data, createdAt, processedAt, outcome, receivedAt })
    .from(recipients)
    .innerJoin(notifications, eq(notifications.id, recipients.notificationId))
    .where(and(eq(recipients.userId, userId), isNext))
    .orderBy(desc(recipients.notificationId))
    .limit(PAGE_SIZE);
}
