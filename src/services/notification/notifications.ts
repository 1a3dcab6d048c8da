/**
 * Notifications as their authors and their readers see them: stored once with all recipients, listed newest first, marked
 * received once. What another person was told does not exist for anybody else.
 */
import { and, desc, eq, isNull, lt, sql } from "drizzle-orm";
import { validate as isUuid, v7 as uuidv7 } from "uuid";
import { type Db, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { forget, lockRecipients } from "./accounts.ts";
import { notificationCreated, notificationReceived } from "./events.ts";
import { deletedAccounts, notifications, recipients } from "./schema.ts";

type Scope = Pick<CallScope, "signal">;

/** What is said. */
export interface Content {
  title: string;
  text: string;
  data: Record<string, string>;
}

/** A notification in its recipient's inbox. */
export interface InboxEntry extends Content {
  notificationId: string;
  createdAt: Date;
  receivedAt: Date | null;
}

/** FCM's limit for one push. */
const MAX_PUSH_BYTES = 4_096;
/** Every push carries this in its data, so it counts. */
const ADDED_DATA_BYTES = "notification_id".length + "00000000-0000-0000-0000-000000000000".length;
const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 100;

/**
 * Stores a notification for these users, each once however the UUID is spelt, and for nobody who is deleted; returns its id. INVALID_ARGUMENT /
 * INVALID_REQUEST when FCM would refuse it for its size.
 */
export async function createNotification(
  db: Db,
  { signal }: Scope,
  { title, text, data, userIds }: Content & { userIds: string[] },
): Promise<string> {
  if (pushBytes({ title, text, data }) > MAX_PUSH_BYTES) {
    const message = `title, text and data together must not exceed ${MAX_PUSH_BYTES - ADDED_DATA_BYTES} bytes`;
    throw fail(Code.InvalidArgument, "INVALID_REQUEST", message);
  }
  const id = uuidv7();
  await transaction(
    db,
    async (tx) => {
      await lockRecipients(tx);
      await tx.insert(notifications).values({ id, title, text, data });
      const told = await tx.execute(sql`
        insert into ${recipients} (notification_id, user_id, created_at)
        select distinct n.id, told.user_id::uuid, n.created_at
        from ${notifications} n, jsonb_array_elements_text(${JSON.stringify(userIds)}::jsonb) told(user_id)
        where n.id = ${id} and told.user_id::uuid not in (select ${deletedAccounts.userId} from ${deletedAccounts})`);
      // All of them are gone: what was to be said to them is not kept either.
      if (told.count === 0) await forget(tx, eq(notifications.id, id));
      await emit(tx, [notificationCreated(id)]);
    },
    { signal },
  );
  return id;
}

/** What FCM counts: the texts that are shown, and keys and values of the data, in UTF-8. */
function pushBytes({ title, text, data }: Content): number {
  const texts = [title, text, ...Object.entries(data).flat()];
  return texts.reduce((total, each) => total + Buffer.byteLength(each), ADDED_DATA_BYTES);
}

/**
 * One page of a person's inbox, newest first; `nextPageToken` is empty on the last. A page size of 0 is the usual one, and one
 * that is too large is the largest there is. INVALID_ARGUMENT / INVALID_PAGE_TOKEN.
 */
export async function listInbox(
  db: Db,
  input: { userId: string; pageSize: number; pageToken: string },
): Promise<{ entries: InboxEntry[]; nextPageToken: string }> {
  const pageSize = Math.min(input.pageSize || DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
  const isAfter = input.pageToken === "" ? undefined : lt(recipients.notificationId, readPageToken(input.pageToken));
  const found = await db
    .select({
      notificationId: recipients.notificationId,
      title: notifications.title,
      text: notifications.text,
      data: notifications.data,
      createdAt: notifications.createdAt,
      receivedAt: recipients.receivedAt,
    })
    .from(recipients)
    .innerJoin(notifications, eq(notifications.id, recipients.notificationId))
    .where(and(eq(recipients.userId, input.userId), isAfter))
    .orderBy(desc(recipients.notificationId))
    .limit(pageSize + 1);
  const entries = found.slice(0, pageSize);
  const isLast = found.length <= pageSize;
  return { entries, nextPageToken: isLast ? "" : pageTokenOf(entries.at(-1)!.notificationId) };
}

function pageTokenOf(lastId: string): string {
  return Buffer.from(lastId).toString("base64url");
}

function readPageToken(token: string): string {
  const id = Buffer.from(token, "base64url").toString();
  if (isUuid(id) && pageTokenOf(id) === token) return id;
  throw fail(Code.InvalidArgument, "INVALID_PAGE_TOKEN", "the page token is not one that this method gave");
}

/** Says that it has reached this user; returns when that was first said. NOT_FOUND / NOTIFICATION_NOT_FOUND. */
export async function markReceived(
  db: Db,
  { signal }: Scope,
  { notificationId, userId }: { notificationId: string; userId: string },
): Promise<Date> {
  const own = and(eq(recipients.notificationId, notificationId), eq(recipients.userId, userId));
  return transaction(
    db,
    async (tx) => {
      const [marked] = await tx
        .update(recipients)
        .set({ receivedAt: sql`concierge_now()` })
        .where(and(own, isNull(recipients.receivedAt)))
        .returning();
      if (marked) {
        await emit(tx, [notificationReceived(marked.notificationId, marked.userId)]);
        return marked.receivedAt!;
      }
      // Another call may have marked it while this one waited for the row: the next statement sees its time.
      const [found] = await tx.select({ receivedAt: recipients.receivedAt }).from(recipients).where(own);
      if (!found?.receivedAt) throw fail(Code.NotFound, "NOTIFICATION_NOT_FOUND", "there is no such notification");
      return found.receivedAt;
    },
    { signal },
  );
}
