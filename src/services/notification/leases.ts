/**
 * Leases: how recipients are handed out to be pushed, each to one caller at a time. A lease ends by itself, by the database's
 * clock, so what a dead sender held is taken again; its token is the fence that keeps a late one from marking what somebody
 * else has taken since. Nothing is ever removed from the ledger, and nothing is marked that its marker did not hold.
 */
import { type AnyColumn, and, asc, eq, inArray, isNull, lte, or, type SQL, sql } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import type { CallScope } from "../../rpc/call.ts";
import { type Device, devicesOf } from "./devices.ts";
import type { Content } from "./notifications.ts";
import { notifications, recipients } from "./schema.ts";

/** A notification and the recipients of it that were taken. */
export interface LeasedNotification extends Content {
  notificationId: string;
  userIds: string[];
}

export interface Claim {
  /** Undefined when nothing was taken. */
  lease?: { token: string; expiresAt: Date };
  /** Oldest first. */
  notifications: LeasedNotification[];
  /** The devices of every recipient that was taken. */
  devices: Map<string, Device[]>;
}

type Scope = Pick<CallScope, "signal">;
type Taken = { notificationId: string; userId: string; leaseExpiresAt: Date | null };

const DEFAULT_LIMIT = 100;
const DEFAULT_LEASE_SECONDS = 30;
const LIST_LEASE_SECONDS = 30;
/** A list holds no more than this, so that its answer stays small; it is also the most that one notification has. */
const MAX_LISTED_RECIPIENTS = 10_000;

// Sub-queries, so that the volatile function is called once in a statement.
const now = sql`(select concierge_now())`;
const inSeconds = (seconds: number) => sql`(select concierge_now() + make_interval(secs => ${seconds}))`;
const oldestFirst = [asc(recipients.createdAt), asc(recipients.notificationId), asc(recipients.userId)];
const isFree = and(
  isNull(recipients.processedAt),
  or(isNull(recipients.leaseExpiresAt), lte(recipients.leaseExpiresAt, now)),
);
const taken = {
  notificationId: recipients.notificationId,
  userId: recipients.userId,
  leaseExpiresAt: recipients.leaseExpiresAt,
};

/** Takes up to `limit` recipients, oldest first, under a new token. */
export async function claim(
  db: Db,
  { signal }: Scope,
  input: { owner: string; limit: number; leaseSeconds: number },
): Promise<Claim> {
  const limit = input.limit || DEFAULT_LIMIT;
  const token = crypto.randomUUID();
  return transaction(
    db,
    async (tx) => {
      // What another call is taking at this moment is passed over, not waited for.
      const free = tx.$with("free").as(
        tx
          .select({ notificationId: recipients.notificationId, userId: recipients.userId })
          .from(recipients)
          .where(isFree)
          .orderBy(...oldestFirst)
          .limit(limit)
          .for("update", { skipLocked: true }),
      );
      const rows = await tx
        .with(free)
        .update(recipients)
        .set({
          leaseOwner: input.owner,
          leaseToken: token,
          leaseExpiresAt: inSeconds(input.leaseSeconds || DEFAULT_LEASE_SECONDS),
        })
        .from(free)
        .where(isSame(free))
        .returning(taken);
      const [first] = rows;
      if (!first) return { notifications: [], devices: new Map() };
      return {
        lease: { token, expiresAt: first.leaseExpiresAt! },
        notifications: await withContent(tx, rows),
        devices: await devicesOf(
          tx,
          rows.map(({ userId }) => userId),
        ),
      };
    },
    { signal },
  );
}

/**
 * Takes the free recipients of up to `limit` notifications, oldest first and no more than 10,000, for 30 seconds and without
 * a token: the lease is known by its owner.
 */
export async function listUnprocessed(
  db: Db,
  { signal }: Scope,
  input: { owner: string; limit: number },
): Promise<LeasedNotification[]> {
  const limit = input.limit || DEFAULT_LIMIT;
  return transaction(
    db,
    async (tx) => {
      const oldest = tx.$with("oldest").as(oldestFree(tx));
      // Only what is leased is locked: the rest stays free for claims of this very moment.
      const free = tx.$with("free").as(
        tx
          .select({ notificationId: recipients.notificationId, userId: recipients.userId })
          .from(recipients)
          .innerJoin(oldest, isSame(oldest))
          .where(and(lte(oldest.place, limit), isFree))
          .for("update", { of: recipients, skipLocked: true }),
      );
      const rows = await tx
        .with(oldest, free)
        .update(recipients)
        .set({ leaseOwner: input.owner, leaseToken: null, leaseExpiresAt: inSeconds(LIST_LEASE_SECONDS) })
        .from(free)
        .where(isSame(free))
        .returning(taken);
      return withContent(tx, rows);
    },
    { signal },
  );
}

/** Free recipients, each with the place of its notification, from 1. */
function oldestFree(tx: Tx) {
  const { notificationId, userId, createdAt } = recipients;
  const place = sql<number>`dense_rank() over (order by ${createdAt}, ${notificationId})`.as("place");
  return tx
    .select({ notificationId, userId, place })
    .from(recipients)
    .where(isFree)
    .orderBy(...oldestFirst)
    .limit(MAX_LISTED_RECIPIENTS);
}

function isSame(row: { notificationId: AnyColumn; userId: AnyColumn }): SQL {
  return and(eq(recipients.notificationId, row.notificationId), eq(recipients.userId, row.userId))!;
}

/** Groups what was taken by notification, oldest first. */
async function withContent(tx: Tx, rows: Taken[]): Promise<LeasedNotification[]> {
  const userIds = Map.groupBy(rows, ({ notificationId }) => notificationId);
  if (userIds.size === 0) return [];
  const found = await tx
    .select()
    .from(notifications)
    .where(inArray(notifications.id, [...userIds.keys()]))
    .orderBy(asc(notifications.createdAt), asc(notifications.id));
  return found.map(({ id, title, text, data }) => ({
    notificationId: id,
    title,
    text,
    data,
    userIds: userIds
      .get(id)!
      .map(({ userId }) => userId)
      .sort(),
  }));
}

/** Whether a lease on the row is, or was when it was processed, this one. */
export function isHeldBy(owner: string, token: string | undefined): SQL {
  return and(
    eq(recipients.leaseOwner, owner),
    token === undefined ? isNull(recipients.leaseToken) : eq(recipients.leaseToken, token),
  )!;
}
