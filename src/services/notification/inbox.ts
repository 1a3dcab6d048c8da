/**
 * The inbox: a person's notifications as that person sees them, newest first, marked received and read once. What another
 * person was told does not exist for anybody else, and what was taken back exists for nobody.
 */
import { and, asc, desc, eq, isNull, lt, type SQL, sql } from "drizzle-orm";
import { validate as isUuid } from "uuid";
import { isAnyOf } from "../../db/any-of.ts";
import { type Db, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import { type PageRequest, pageOf, pageSizeOf, readPageToken } from "../../page-tokens.ts";
import type { CallScope } from "../../rpc/call.ts";
import { notificationRead, notificationReceived } from "./events.ts";
import { notifications, recipients } from "./schema.ts";

type Scope = Pick<CallScope, "signal">;

/** A notification in its recipient's inbox. */
export type InboxEntry = Awaited<ReturnType<typeof listInbox>>["entries"][number];

const MAX_COUNTED = 1_000;

/** What a notification says to each of its recipients. */
export const content = {
  title: notifications.title,
  text: notifications.text,
  data: notifications.data,
  organizationId: notifications.organizationId,
  topic: notifications.topic,
  priority: notifications.priority,
  createdAt: notifications.createdAt,
};

export const isNotCancelled = sql`${recipients.outcome} is distinct from 'cancelled'`;

/** One page of a person's inbox, newest first. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listInbox(db: Db, input: PageRequest & { userId: string; unreadOnly: boolean }) {
  const { userId, unreadOnly } = input;
  const list = ["notifications", userId, unreadOnly ? "unread" : "all"];
  const key = readPageToken(list, input, ([id, ...more]) => isUuid(id) && more.length === 0);
  const { notificationId, receivedAt, readAt } = recipients;
  // Limited before it is joined: whatever the planner thinks, it reads no notifications of others.
  const page = db
    .select({ notificationId, receivedAt, readAt })
    .from(recipients)
    .where(and(inboxOf(userId), unreadOnly ? isNull(readAt) : undefined, key && lt(notificationId, key[0]!)))
    .orderBy(desc(notificationId))
    .limit(pageSizeOf(input) + 1)
    .as("page");
  const found = await db
    .select({ notificationId: page.notificationId, ...content, receivedAt: page.receivedAt, readAt: page.readAt })
    .from(page)
    .innerJoin(notifications, eq(notifications.id, page.notificationId))
    .orderBy(desc(page.notificationId));
  return pageOf(list, input, found, (entry) => [entry.notificationId]);
}

/** How many are not read; `isMore` than the 1,000 that are counted. */
export async function countUnread(db: Db, userId: string): Promise<{ count: number; isMore: boolean }> {
  const unread = db
    .select({ notificationId: recipients.notificationId })
    .from(recipients)
    .where(and(inboxOf(userId), isNull(recipients.readAt)))
    // By the index, that is: a scan of the table might have to pass everybody else's first.
    .orderBy(desc(recipients.notificationId))
    .limit(MAX_COUNTED + 1)
    .as("unread");
  const found = await db.$count(unread);
  return { count: Math.min(found, MAX_COUNTED), isMore: found > MAX_COUNTED };
}

/** Says that it has reached this user; returns when that was first said. NOT_FOUND / NOTIFICATION_NOT_FOUND. */
export async function markReceived(
  db: Db,
  { signal }: Scope,
  { notificationId, userId }: { notificationId: string; userId: string },
): Promise<Date> {
  const own = and(eq(recipients.notificationId, notificationId), inboxOf(userId));
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
      if (!found?.receivedAt) throw notFound();
      return found.receivedAt;
    },
    { signal },
  );
}

/** Says that this user has read them, and so received them: all, or none. NOT_FOUND / NOTIFICATION_NOT_FOUND. */
export async function markRead(
  db: Db,
  { signal }: Scope,
  { notificationIds, userId }: { notificationIds: string[]; userId: string },
): Promise<void> {
  const ids = [...new Set(notificationIds.map((id) => id.toLowerCase()))];
  const own = (those: string[]) => and(isAnyOf(recipients.notificationId, those), inboxOf(userId));
  await transaction(
    db,
    async (tx) => {
      // In the order in which everybody locks them. Who had to wait for a row sees what the other one did.
      const found = await tx
        .select()
        .from(recipients)
        .where(own(ids))
        .orderBy(asc(recipients.notificationId))
        .for("no key update");
      if (found.length < ids.length) throw notFound();
      const unread = found.filter(({ readAt }) => readAt === null);
      if (unread.length === 0) return;
      await tx
        .update(recipients)
        .set({ readAt: sql`moment.now`, receivedAt: sql`coalesce(${recipients.receivedAt}, moment.now)` })
        // One time for both, which is taken once: hence the offset.
        .from(sql`(select concierge_now() as now offset 0) as moment`)
        .where(own(unread.map(({ notificationId }) => notificationId)));
      const events = unread.map(({ notificationId, receivedAt }) => [
        ...(receivedAt === null ? [notificationReceived(notificationId, userId)] : []),
        notificationRead(notificationId, userId),
      ]);
      await emit(tx, events.flat());
    },
    { signal },
  );
}

function inboxOf(userId: string): SQL | undefined {
  return and(eq(recipients.userId, userId), isNotCancelled);
}

function notFound() {
  return fail(Code.NotFound, "NOTIFICATION_NOT_FOUND", "there is no such notification");
}
