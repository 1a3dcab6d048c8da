/**
 * Leases: how recipients are handed out to be pushed, each to one caller at a time. A lease ends by itself, by the database's
 * clock, so what a dead sender held is taken again; its token is the fence that keeps a late one from marking what somebody
 * else has taken since. No queue waits for another one to become empty, and what ends its senders ends as a dead letter.
 */
import { asc, type SQL, sql } from "drizzle-orm";
import { isAnyOf } from "../../db/any-of.ts";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { type Device, devicesOf } from "./devices.ts";
import type { Content } from "./notifications.ts";
import { type Outcome, settle } from "./outcomes.ts";
import { deliveries, mutedTopics, notifications } from "./schema.ts";

/** A notification and the recipients of it that were taken. */
export interface LeasedNotification extends Content {
  notificationId: string;
  userIds: string[];
  expiresAt: Date;
  priority: "normal" | "high";
  /** May be empty. */
  traceparent: string;
}

export interface Claim {
  /** Undefined when nothing was taken. */
  lease?: { token: string; expiresAt: Date };
  /** Oldest first. */
  notifications: LeasedNotification[];
}

/** A recipient under a lease, and where to reach them. */
export interface LeasedRecipient {
  notificationId: string;
  userId: string;
  devices: Device[];
}

type Scope = Pick<CallScope, "signal">;

interface Taken {
  notificationId: string;
  userId: string;
  availableAt: Date;
  /** Not null: it is not to be pushed. */
  ending: Extract<Outcome, "cancelled" | "expired" | "muted" | "failed"> | null;
}

/** What one transaction took. */
interface Round {
  isEmpty: boolean;
  leaseExpiresAt: Date | undefined;
  notifications: LeasedNotification[];
}

const DEFAULT_LIMIT = 100;
const DEFAULT_LEASE_SECONDS = 30;
const LIST_LEASE_SECONDS = 30;
/** A list holds no more than this, so that its answer stays small; it is also the most that one notification has. */
const MAX_LISTED_RECIPIENTS = 10_000;
/** More than FCM takes at once; with tokens of the longest sort the answer stays below 4 MiB. */
const MAX_TOLD_DEVICES = 700;
/** Taken so often without a word, it may be what ended its senders. Written out, or the index of suspects would not be used. */
const SUSPECT_CLAIMS = sql.raw("2");
/** With three of them alone; who would be the next one to take it gives it up. */
const MAX_CLAIMS = 5;
/** Bounds a call that comes by nothing but what is not to be pushed. */
const MAX_ROUNDS = 20;

// Sub-queries, so that the volatile function is called once in a statement.
const now = sql`(select concierge_now())`;
const inSeconds = (seconds: number) => sql`(select concierge_now() + make_interval(secs => ${seconds}))`;

/** Takes up to `limit` recipients under a new token: from each queue in turn, or one suspect alone. */
export async function claim(
  db: Db,
  { signal }: Scope,
  input: { owner: string; limit: number; leaseSeconds: number },
): Promise<Claim> {
  const token = crypto.randomUUID();
  const lease = { owner: input.owner, token, seconds: input.leaseSeconds || DEFAULT_LEASE_SECONDS };
  // One bad batch leaves many suspects: neither they nor the others are to wait until there are none of the other kind.
  const choices = [oldestSuspect, ofEachQueue(input.limit || DEFAULT_LIMIT)];
  if (Math.random() < 0.5) choices.reverse();
  const takeSome = async (tx: Tx) => {
    const taken = await take(tx, choices[0]!, lease);
    return taken.length > 0 ? taken : take(tx, choices[1]!, lease);
  };
  const { leaseExpiresAt, notifications } = await untilSomething(db, signal, takeSome);
  return leaseExpiresAt ? { lease: { token, expiresAt: leaseExpiresAt }, notifications } : { notifications };
}

/**
 * Takes the free recipients of up to `limit` notifications, oldest first and no more than 10,000, for 30 seconds and without
 * a token: the lease is known by its owner. To be listed counts as no claim.
 */
export async function listUnprocessed(
  db: Db,
  { signal }: Scope,
  input: { owner: string; limit: number },
): Promise<LeasedNotification[]> {
  const lease = { owner: input.owner, token: null, seconds: LIST_LEASE_SECONDS };
  const oldest = ofOldestNotifications(input.limit || DEFAULT_LIMIT);
  return (await untilSomething(db, signal, (tx) => take(tx, oldest, lease))).notifications;
}

/**
 * Lets a lease last from now, or only looks at it (0); returns what is still under it, with the devices as they are now. What was marked or taken back
 * meanwhile is not in it, nor what comes after the first recipients with 700 devices together. ABORTED / LEASE_LOST when nothing
 * is left.
 */
export async function extendLease(
  db: Db,
  { signal }: Scope,
  { owner, token, leaseSeconds }: { owner: string; token: string; leaseSeconds: number },
): Promise<{ expiresAt: Date; recipients: LeasedRecipient[] }> {
  return transaction(
    db,
    async (tx) => {
      const told = sql`d.notification_id as "notificationId", d.user_id as "userId", d.available_at as "availableAt"`;
      const held = sql`from ${deliveries} d where ${isHeldBy(owner, token)} order by d.notification_id, d.user_id`;
      const prolonged = sql`
        with held as (select d.notification_id, d.user_id ${held} for update)
        update ${deliveries} d set available_at = ${inSeconds(leaseSeconds)}
        from held where d.notification_id = held.notification_id and d.user_id = held.user_id
        returning ${told}`;
      const rows = await tx.execute<{ notificationId: string; userId: string; availableAt: string }>(
        leaseSeconds === 0 ? sql`select ${told} ${held}` : prolonged,
      );
      const [first] = rows;
      if (!first) throw fail(Code.Aborted, "LEASE_LOST", "nothing is leased to this caller under this token");
      const userIds = rows.map(({ userId }) => userId);
      const devices = await devicesOf(tx, userIds);
      const recipients = rows.map(({ notificationId, userId }) => {
        return { notificationId, userId, devices: devices.get(userId)! };
      });
      return { expiresAt: new Date(first.availableAt), recipients: firstOf(recipients, MAX_TOLD_DEVICES) };
    },
    { signal },
  );
}

/** The first recipients, until they have so many devices. */
function firstOf(recipients: LeasedRecipient[], maxDevices: number): LeasedRecipient[] {
  let count = 0;
  const end = recipients.findIndex(({ devices }) => {
    count += devices.length;
    return count > maxDevices;
  });
  return end === -1 ? recipients : recipients.slice(0, end);
}

/** Whether delivery `d` is under this lease, which may have run out; an undefined token is that of a list. */
export function isHeldBy(owner: string, token: string | undefined): SQL {
  return sql`d.lease_owner = ${owner} and ${token === undefined ? sql`d.lease_token is null` : sql`d.lease_token = ${token}`}`;
}

/** An answer is empty only if nothing waits: what was taken may all have been not to be pushed. */
async function untilSomething(db: Db, signal: AbortSignal, takeSome: (tx: Tx) => Promise<Taken[]>): Promise<Round> {
  for (let round = 1; ; round++) {
    const taken = await transaction(db, async (tx) => handOut(tx, await takeSome(tx)), { signal });
    if (taken.isEmpty || taken.notifications.length > 0 || round === MAX_ROUNDS) return taken;
  }
}

/** Ends what is not to be pushed, and returns the rest with what to say, oldest first. */
async function handOut(tx: Tx, taken: Taken[]): Promise<Round> {
  const ended = taken.filter(({ ending }) => ending !== null);
  const rest = taken.filter(({ ending }) => ending === null);
  const endings = ended.map(({ notificationId, userId, ending }) => {
    const code = ending === "failed" ? "gave-up" : undefined;
    return { notificationId, userId, outcome: ending!, code };
  });
  await emit(tx, await settle(tx, endings));
  return {
    isEmpty: taken.length === 0,
    leaseExpiresAt: rest[0]?.availableAt,
    notifications: await withContent(tx, rest),
  };
}

/** Leases what is chosen: a query of ids that locks deliveries. What another call is taking at this moment is passed over. */
async function take(
  tx: Tx,
  chosen: SQL,
  lease: { owner: string; token: string | null; seconds: number },
): Promise<Taken[]> {
  const isCounted = lease.token !== null;
  const rows = await tx.execute<Omit<Taken, "availableAt"> & { availableAt: string }>(sql`
    with recursive ${chosen}
    update ${deliveries} d set lease_owner = ${lease.owner}, lease_token = ${lease.token}::uuid,
      available_at = ${inSeconds(lease.seconds)}, claims = claims + ${isCounted ? 1 : 0}
    from chosen c
    join ${notifications} n on n.id = c.notification_id
    left join ${mutedTopics} m on m.user_id = c.user_id and m.topic = n.topic
    where d.notification_id = c.notification_id and d.user_id = c.user_id
    returning d.notification_id as "notificationId", d.user_id as "userId", d.available_at as "availableAt",
      case when n.cancelled_at is not null then 'cancelled' when n.expires_at <= ${now} then 'expired'
        when m.topic is not null then 'muted'
        when d.claims > ${MAX_CLAIMS} and ${isCounted} then 'failed' end as ending`);
  return rows.map((row) => ({ ...row, availableAt: new Date(row.availableAt) }));
}

const oldestSuspect = sql`chosen as (
  select notification_id, user_id from ${deliveries}
  where claims >= ${SUSPECT_CLAIMS} and available_at <= ${now}
  order by available_at limit 1 for update skip locked)`;

/**
 * A share of each queue that has something to take, in the order of rank and time. The queues are found by leaps over the index
 * rather than by reading it; where there are more of them than can be served, chance decides.
 */
function ofEachQueue(limit: number): SQL {
  const isFree = sql`d.available_at <= ${now} and d.claims < ${SUSPECT_CLAIMS}`;
  return sql`queues (queue) as (
      (select d.queue from ${deliveries} d order by d.queue limit 1)
      union all
      select (select d.queue from ${deliveries} d where d.queue > queues.queue order by d.queue limit 1)
      from queues where queues.queue is not null
    ), turns as materialized (
      select queue from queues
      where exists (select from ${deliveries} d where d.queue = queues.queue and ${isFree})
      order by random() limit ${limit}
    ), chosen as (
      select share.notification_id, share.user_id from turns, lateral (
        select d.notification_id, d.user_id from ${deliveries} d where d.queue = turns.queue and ${isFree}
        order by d.rank, d.available_at limit (select ceil(${limit}::numeric / count(*)) from turns)
        for update skip locked
      ) share limit ${limit}
    )`;
}

/** What is free of the oldest notifications. Only what is leased is locked: the rest stays free for claims of this moment. */
function ofOldestNotifications(limit: number): SQL {
  return sql`oldest as (
      select notification_id, user_id, dense_rank() over (order by created_at, notification_id) as place
      from ${deliveries} where available_at <= ${now}
      order by created_at, notification_id, user_id limit ${MAX_LISTED_RECIPIENTS}
    ), chosen as (
      select d.notification_id, d.user_id from oldest
      join ${deliveries} d on d.notification_id = oldest.notification_id and d.user_id = oldest.user_id
      where oldest.place <= ${limit} and d.available_at <= ${now}
      for update of d skip locked
    )`;
}

/** Groups what was taken by notification, oldest first. */
async function withContent(tx: Tx, rows: Taken[]): Promise<LeasedNotification[]> {
  const userIds = Map.groupBy(rows, ({ notificationId }) => notificationId);
  if (userIds.size === 0) return [];
  const { id: notificationId, title, text, data, expiresAt, priority, traceparent } = notifications;
  const found = await tx
    .select({ notificationId, title, text, data, expiresAt, priority, traceparent })
    .from(notifications)
    .where(isAnyOf(notificationId, userIds.keys()))
    .orderBy(asc(notifications.createdAt), asc(notificationId));
  return found.map((notification) => ({
    ...notification,
    userIds: userIds
      .get(notification.notificationId)!
      .map(({ userId }) => userId)
      .sort(),
  }));
}
