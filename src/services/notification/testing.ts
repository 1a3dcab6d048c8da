/** What notification's tests of domain functions stand on: a database of their own, and its hour to set. */
import { sql } from "drizzle-orm";
import { NIL, v7 as uuidv7 } from "uuid";
import { type Db, openDatabase } from "../../db/database.ts";
import { setDatabaseOffset, testDatabase } from "../../testing/cluster.ts";
import { ANYBODY } from "./callers.ts";
import { cancelNotification } from "./cancellations.ts";
import { type Draft, storeNotification } from "./notifications.ts";
import { deliveries, notifications, recipients } from "./schema.ts";

/** A call that nobody cancels. */
export const scope = { signal: new AbortController().signal };

export async function openTestDatabase() {
  await using opened = new AsyncDisposableStack();
  const { ownerUrl, runtimeUrl } = opened.use(await testDatabase(["platform", "notification"]));
  const { db } = opened.use(openDatabase({ url: runtimeUrl, poolSize: 8, applicationName: "test" }));
  const resources = opened.move();
  return {
    db,
    /** Moves the database's hour, counted from now. */
    setOffset: (offsetMs: number) => setDatabaseOffset(ownerUrl, offsetMs),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** A notification that waits; what is not said is as with the plainest one. */
export interface Waiting {
  userIds: string[];
  organizationId?: string;
  title?: string;
  text?: string;
  data?: Record<string, string>;
  topic?: string;
  isUrgent?: boolean;
  ttlSeconds?: number;
}

/** Stores many notifications at once, in this order and without asking whose members they are for; their ids. */
export async function store(db: Db, waiting: Waiting[]): Promise<string[]> {
  const rows = waiting.map((each) => ({
    ...{ id: uuidv7(), organizationId: null, title: "", text: "hello", data: {}, topic: "", ttlSeconds: 2_419_200 },
    ...each,
    rank: each.isUrgent ? 0 : 1,
  }));
  await db.execute(sql`
    with drafts as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as draft(id uuid, "organizationId" uuid, title text,
        text text, data jsonb, topic text, "ttlSeconds" integer, rank smallint, "userIds" jsonb)
    ), stored as (
      insert into ${notifications} (id, organization_id, title, text, data, topic, priority, expires_at)
      select id, "organizationId", title, text, data, topic, case rank when 0 then 'high' else 'normal' end,
        concierge_now() + make_interval(secs => "ttlSeconds") from drafts
    ), told as (
      insert into ${recipients} (notification_id, user_id)
      select id, value::uuid from drafts, jsonb_array_elements_text("userIds")
    )
    insert into ${deliveries} (notification_id, user_id, queue, rank, created_at, available_at)
    select id, value::uuid, coalesce("organizationId", ${NIL}::uuid), rank, concierge_now(), concierge_now()
    from drafts, jsonb_array_elements_text("userIds")`);
  return rows.map(({ id }) => id);
}

/** Takes a notification back, whoever has created it. */
export function cancel(db: Db, notificationId: string): Promise<number> {
  return cancelNotification(db, scope, { notificationId, author: ANYBODY });
}

/** UUIDs in order, as recipients are. */
export function newIds(count: number): string[] {
  return Array.from({ length: count }, () => crypto.randomUUID()).sort();
}

const PLAIN: Draft = {
  ...{ author: "backend test", organizationId: "", topic: "", title: "", text: "hello", data: {} },
  ...{ isUrgent: false, ttlSeconds: 0, traceparent: "", idempotencyKey: undefined },
};

/** Stores a notification; its id. */
export async function notify(db: Db, userIds: string[], text = "hello", draft: Partial<Draft> = {}): Promise<string> {
  return (await storeNotification(db, scope, { ...PLAIN, text, ...draft }, userIds))!.notificationId;
}
