/** Recipients as an author sees them: what became of a notification, person by person. */
import { and, asc, eq, gt, sql } from "drizzle-orm";
import { validate as isUuid } from "uuid";
import { type Db, during } from "../../db/database.ts";
import { type PageRequest, pageOf, pageSizeOf, readPageToken } from "../../page-tokens.ts";
import type { CallScope } from "../../rpc/call.ts";
import { findNotification, type WhichNotification } from "./notifications.ts";
import { deliveries, recipients } from "./schema.ts";

export type RecipientState = "pending" | "sent" | "failed" | "cancelled";

export interface ListedRecipient {
  userId: string;
  state: RecipientState;
  /** Why it failed; else empty. */
  code: string;
  failedTries: number;
  processedAt: Date | null;
  receivedAt: Date | null;
  readAt: Date | null;
}

type Row = Pick<typeof recipients.$inferSelect, "outcome" | "code">;

/** One page, in the order of ids. NOT_FOUND / NOTIFICATION_NOT_FOUND, INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listRecipients(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  { notificationId, author, ...page }: PageRequest & WhichNotification,
): Promise<{ entries: ListedRecipient[]; nextPageToken: string }> {
  const list = ["ListRecipients", notificationId.toLowerCase()];
  const [after] = readPageToken(list, page, ([id, ...others]) => isUuid(id) && others.length === 0) ?? [];
  const scoped = during(db, signal);
  await findNotification(scoped, { notificationId, author });
  const { userId, outcome, code, processedAt, receivedAt, readAt } = recipients;
  const failedTries = sql<number>`coalesce(${deliveries.failedTries}, ${recipients.failedTries})`;
  const found = await scoped
    .select({ userId, outcome, code, failedTries, processedAt, receivedAt, readAt })
    .from(recipients)
    .leftJoin(deliveries, and(eq(deliveries.notificationId, recipients.notificationId), eq(deliveries.userId, userId)))
    .where(and(eq(recipients.notificationId, notificationId), after === undefined ? undefined : gt(userId, after)))
    .orderBy(asc(userId))
    .limit(pageSizeOf(page) + 1);
  const { entries, nextPageToken } = pageOf(list, page, found, (entry) => [entry.userId]);
  return { entries: entries.map((entry) => ({ ...entry, ...fateOf(entry) })), nextPageToken };
}

function fateOf({ outcome, code }: Row): Pick<ListedRecipient, "state" | "code"> {
  switch (outcome) {
    case null:
      return { state: "pending", code: "" };
    case "sent":
    case "cancelled":
      return { state: outcome, code: "" };
    case "failed":
      return { state: "failed", code: code ?? "" };
    case "no_device":
      return { state: "failed", code: "no-device" };
    case "muted":
    case "expired":
      return { state: "failed", code: outcome };
  }
}
