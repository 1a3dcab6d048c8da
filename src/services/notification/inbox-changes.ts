/**
 * What events mean for inboxes: whose entries they touch, and what those entries are now. What an entry was in between is told to
 * nobody: the last state is what counts, and an event of its last change is always still to come or here.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { eq, sql } from "drizzle-orm";
import {
  NotificationCancelledSchema,
  NotificationCreatedSchema,
  NotificationReadSchema,
  NotificationReceivedSchema,
} from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import { isAnyOf } from "../../db/any-of.ts";
import type { Db } from "../../db/database.ts";
import type { FeedEvent } from "../../feed/log.ts";
import { content, type InboxEntry } from "./inbox.ts";
import { notifications, recipients } from "./schema.ts";

/** One person's entry, changed at this position of the feed. */
export interface InboxChange {
  position: bigint;
  userId: string;
  notificationId: string;
  /** Undefined: it was taken back. */
  entry: InboxEntry | undefined;
}

/** The events that touch inboxes. */
export const TOUCHING_TYPES: ReadonlySet<string> = new Set(
  [NotificationCreatedSchema, NotificationReceivedSchema, NotificationReadSchema, NotificationCancelledSchema].map(
    ({ typeName }) => typeName,
  ),
);

/** A notification may be for 10,000: few people are looked for each by themselves, and more among all of them. */
const MAX_LOOKED_UP = 10;

/** An entry, by notification and user. */
type Pair = [notificationId: string, userId: string];

/** How these people's inboxes were changed by these events: each entry once, at its last event, in the order of positions. */
export async function changesOf(db: Db, events: FeedEvent[], userIds: ReadonlySet<string>): Promise<InboxChange[]> {
  const touched = new Map<string, bigint>();
  const touch = ([notificationId, userId]: Pair, position: bigint) => {
    const key = `${notificationId} ${userId}`;
    if (position > (touched.get(key) ?? -1n)) touched.set(key, position);
  };
  const created = new Map<string, bigint>();
  for (const { type, payload, position } of events) {
    if (type === NotificationCreatedSchema.typeName) {
      created.set(fromBinary(NotificationCreatedSchema, payload).notificationId, position);
    } else {
      const { notificationId, named } = namedIn(type, payload);
      for (const userId of named) if (userIds.has(userId)) touch([notificationId, userId], position);
    }
  }
  for (const pair of await recipientsAmong(db, [...created.keys()], userIds)) touch(pair, created.get(pair[0])!);
  const entries = await entriesOf(
    db,
    [...touched.keys()].map((key) => key.split(" ") as Pair),
  );
  return entries
    .map((change) => ({ ...change, position: touched.get(`${change.notificationId} ${change.userId}`)! }))
    .sort((one, other) => Number(one.position - other.position));
}

function namedIn(type: string, payload: Uint8Array): { notificationId: string; named: string[] } {
  if (type === NotificationCancelledSchema.typeName) {
    const { notificationId, userIds } = fromBinary(NotificationCancelledSchema, payload);
    return { notificationId, named: userIds };
  }
  const isRead = type === NotificationReadSchema.typeName;
  const { notificationId, userId } = fromBinary(isRead ? NotificationReadSchema : NotificationReceivedSchema, payload);
  return { notificationId, named: [userId] };
}

/** Which of these people these notifications are for; of few people, who it may be. */
async function recipientsAmong(db: Db, ids: string[], userIds: ReadonlySet<string>): Promise<Pair[]> {
  if (ids.length === 0) return [];
  if (userIds.size <= MAX_LOOKED_UP) return ids.flatMap((id) => [...userIds].map((userId): Pair => [id, userId]));
  const found = await db.execute<{ notificationId: string; userId: string }>(sql`
    select notification_id as "notificationId", user_id as "userId"
    from jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb) created(id)
    join ${recipients} on notification_id = created.id::uuid
    where ${isAnyOf(recipients.userId, userIds)}`);
  return found.map(({ notificationId, userId }) => [notificationId, userId]);
}

/** The entries as they are now. A text is read once, however many people it is for. */
async function entriesOf(db: Db, pairs: Pair[]): Promise<Omit<InboxChange, "position">[]> {
  if (pairs.length === 0) return [];
  const { notificationId, userId, outcome, receivedAt, readAt } = recipients;
  const states = await db
    .select({ notificationId, userId, outcome, receivedAt, readAt })
    .from(sql`jsonb_to_recordset(${JSON.stringify(pairs.map(([n, u]) => ({ n, u })))}::jsonb) touched(n uuid, u uuid)`)
    .innerJoin(recipients, sql`${eq(notificationId, sql`touched.n`)} and ${eq(userId, sql`touched.u`)}`);
  const ids = [...new Set(states.map((state) => state.notificationId))];
  const contents = await db
    .select({ id: notifications.id, ...content })
    .from(notifications)
    .where(isAnyOf(notifications.id, ids));
  const contentOf = new Map(contents.map(({ id, ...said }) => [id, said]));
  return states.map(({ notificationId, userId, outcome, receivedAt, readAt }) => {
    const entry = { notificationId, ...contentOf.get(notificationId)!, receivedAt, readAt };
    return { notificationId, userId, entry: outcome === "cancelled" ? undefined : entry };
  });
}
