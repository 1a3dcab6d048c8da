/**
 * Notifications as their authors make them: stored once with all recipients, and with a delivery for each. A call that
 * comes again under its idempotency key stores nothing, whoever has joined or left since.
 */
import { and, eq, sql } from "drizzle-orm";
import { NIL, v5 as uuidv5, v7 as uuidv7 } from "uuid";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { forget, lockRecipients } from "./accounts.ts";
import { takeAllowance } from "./allowances.ts";
import { type Audience, resolveAudience } from "./audiences.ts";
import { ANYBODY } from "./callers.ts";
import { notificationCreated } from "./events.ts";
import { findCreated, type IdempotencyKey } from "./idempotency-keys.ts";
import { deletedAccounts, deliveries, notifications, recipients } from "./schema.ts";
import type { NotificationContext } from "./service.ts";

/** What is said. */
export interface Content {
  title: string;
  text: string;
  data: Record<string, string>;
}

/** A notification that is to be stored. */
export interface Draft extends Content {
  /** Kind and name of the caller. */
  author: string;
  /** UUID; empty where it comes from none. */
  organizationId: string;
  /** Empty: it cannot be muted. */
  topic: string;
  isUrgent: boolean;
  /** After which it is not pushed any more; 0 is the longest. */
  ttlSeconds: number;
  /** The trace in which it is created, as W3C's header; may be empty. */
  traceparent: string;
  /** Undefined: each call is another notification. */
  idempotencyKey: IdempotencyKey | undefined;
}

/** A notification that was stored. */
export interface Created {
  notificationId: string;
  /** How many people it is for. */
  recipients: number;
}

/** A notification, as somebody asks for it who looks after those of `author`. */
export interface WhichNotification {
  notificationId: string;
  /** Kind and name of a caller, or ANYBODY. */
  author: string;
}

/** The longest that FCM keeps a push for a device. */
const MAX_TTL_SECONDS = 28 * 86_400;
/** Of the queues of authors without an organization; arbitrary, and never changed. */
const AUTHORS_NAMESPACE = "b0f9d7a6-5c1e-4a37-9d0e-3f5a2c81e764";
/** FCM's limit for one push. */
const MAX_PUSH_BYTES = 4_096;
/** Every push carries this in its data, so it counts. */
const ADDED_DATA_BYTES = "notification_id".length + NIL.length;

/** Whose turn it is: the organization, or where it comes from none the author, as a UUID that is always the same. */
export function queueOf({ organizationId, author }: Pick<Draft, "organizationId" | "author">): string {
  return organizationId || uuidv5(author, AUTHORS_NAMESPACE);
}

/** Its id, as the database writes it. NOT_FOUND / NOTIFICATION_NOT_FOUND, also where it is another author's. */
export async function findNotification(db: Db | Tx, { notificationId, author }: WhichNotification): Promise<string> {
  const { id } = notifications;
  const isOwn = author === ANYBODY ? undefined : eq(notifications.author, author);
  const [found] = await db
    .select({ id })
    .from(notifications)
    .where(and(eq(id, notificationId), isOwn));
  if (!found) throw fail(Code.NotFound, "NOTIFICATION_NOT_FOUND", "there is no such notification");
  return found.id;
}

/**
 * Resolves whom it is for, and stores it. Fails as CreateNotification says. Of calls under one key at the same moment
 * each takes from the allowance.
 */
export async function createNotification(
  notification: NotificationContext,
  scope: CallScope,
  draft: Draft,
  audience: Audience,
): Promise<Created> {
  requirePushable(draft);
  const { db, config } = notification;
  const known = await findCreated(db, scope, draft);
  if (known) return known;
  const userIds = await resolveAudience(notification, scope, audience);
  const name = draft.organizationId || draft.author;
  await takeAllowance(db, scope, { name, count: userIds.length, perMinute: config.recipientsPerMinute });
  return (await storeNotification(db, scope, draft, userIds)) ?? (await findCreated(db, scope, draft))!;
}

/**
 * Stores it for these users, each once, and for nobody who is deleted. Undefined when another call has stored it under
 * the same key.
 */
export async function storeNotification(
  db: Db,
  { signal }: Pick<CallScope, "signal">,
  draft: Draft,
  userIds: string[],
): Promise<Created | undefined> {
  const { organizationId, ttlSeconds, isUrgent, idempotencyKey, ...content } = draft;
  const row = {
    ...content,
    id: uuidv7(),
    organizationId: organizationId || null,
    priority: isUrgent ? ("high" as const) : ("normal" as const),
    expiresAt: sql`concierge_now() + make_interval(secs => ${ttlSeconds || MAX_TTL_SECONDS})`,
    idempotencyKey: idempotencyKey?.key,
    requestDigest: idempotencyKey?.digest,
  };
  return transaction(
    db,
    async (tx) => {
      await lockRecipients(tx);
      const { author, idempotencyKey: key } = notifications;
      const stored = await tx
        .insert(notifications)
        .values(row)
        .onConflictDoNothing({ target: [author, key] });
      if (stored.count === 0) return undefined;
      const told = await storeRecipients(tx, { notificationId: row.id, queue: queueOf(draft), userIds });
      // All of them are gone: what was to be said to them is not kept either.
      if (told === 0) await forget(tx, eq(notifications.id, row.id));
      await emit(tx, [notificationCreated(row.id, organizationId)]);
      return { notificationId: row.id, recipients: told };
    },
    { signal },
  );
}

/** Returns how many they are. In the order of ids, so that a claim takes them so. */
async function storeRecipients(
  tx: Tx,
  { notificationId, queue, userIds }: { notificationId: string; queue: string; userIds: string[] },
): Promise<number> {
  const named = sql`jsonb_array_elements_text(${JSON.stringify(userIds)}::jsonb)`;
  const stored = await tx.execute(sql`
    with told as (
      insert into ${recipients} (notification_id, user_id)
      select ${notificationId}::uuid, named.user_id from (select distinct value::uuid as user_id from ${named}) named
      where not exists (select from ${deletedAccounts} where ${deletedAccounts.userId} = named.user_id)
      returning user_id
    )
    insert into ${deliveries} (notification_id, user_id, queue, rank, created_at, available_at)
    select n.id, told.user_id, ${queue}::uuid,
      case n.priority when 'high' then 0 else 1 end, n.created_at, n.created_at
    from ${notifications} n, told where n.id = ${notificationId}
    order by told.user_id`);
  return stored.count;
}

/** INVALID_ARGUMENT / INVALID_REQUEST when FCM would refuse it for its size. */
function requirePushable(content: Content): void {
  if (pushBytes(content) <= MAX_PUSH_BYTES) return;
  const message = `title, text and data together must not exceed ${MAX_PUSH_BYTES - ADDED_DATA_BYTES} bytes`;
  throw fail(Code.InvalidArgument, "INVALID_REQUEST", message);
}

/** What FCM counts: the texts that are shown, and keys and values of the data, in UTF-8. */
function pushBytes({ title, text, data }: Content): number {
  const texts = [title, text, ...Object.entries(data).flat()];
  return texts.reduce((total, each) => total + Buffer.byteLength(each), ADDED_DATA_BYTES);
}
