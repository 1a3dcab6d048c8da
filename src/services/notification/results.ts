/**
 * Results: what became of leased recipients. All that a call tells is written in one transaction or nothing is, so a marker
 * that has lost a lease learns it and leaves no half of its work; telling it again changes nothing.
 */
import { randomInt } from "node:crypto";
import { sql } from "drizzle-orm";
import { isAnyOf } from "../../db/any-of.ts";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { cancelledAmong } from "./cancellations.ts";
import { removeDevices } from "./devices.ts";
import { isHeldBy } from "./leases.ts";
import { type Ending, settle } from "./outcomes.ts";
import { deliveries, recipients } from "./schema.ts";

/** `retry`: the push service did not take it for now. `not_tried`: nothing is known of it, or it was not asked. */
export type Result = "sent" | "no_device" | "failed" | "retry" | "not_tried";

export interface RecipientResult {
  notificationId: string;
  userId: string;
  result: Result;
  /** Why it was not sent; may be empty. */
  code: string;
  /** For how long the push service wants to be left alone. */
  retryAfterSeconds: number;
}

/** Who marks what. */
export interface Results {
  owner: string;
  /** Undefined for what ListUnprocessed leased. */
  leaseToken: string | undefined;
  /** Notifications whose leased recipients are all sent, but for those in `results`. */
  notificationIds: string[];
  results: RecipientResult[];
  deadDeviceIds: string[];
  /** After so many tries that failed a recipient is given up. */
  maxTries: number;
}

interface Held {
  notificationId: string;
  userId: string;
  failedTries: number;
}

/** A delivery that waits: for another try, or for none. */
interface Wait {
  notificationId: string;
  userId: string;
  failedTries: number;
  seconds: number;
}

const FIRST_WAIT_SECONDS = 10;
const LONGEST_WAIT_SECONDS = 3_600;
const JITTER = 0.2;

/**
 * Marks recipients, removes their dead devices, and tells of those that are processed once for each notification; returns how
 * many these are. ABORTED / LEASE_LOST, INVALID_ARGUMENT / INVALID_REQUEST for two results of one recipient.
 */
export async function markProcessed(db: Db, { signal }: Pick<CallScope, "signal">, told: Results): Promise<number> {
  const results = byRecipient(told.results);
  return transaction(
    db,
    async (tx) => {
      const held = await lockHeld(tx, told, [...results.values()]);
      await refuseLost(tx, told, results, held);
      const missed = held.filter((each) => resultOf(results.get(keyOf(each))) !== "sent");
      // After the lock, so that a cancellation of this moment is known.
      const cancelledIds = await cancelledAmong(
        tx,
        missed.map(({ notificationId }) => notificationId),
      );
      const { endings, waits } = decide(held, { results, cancelledIds, maxTries: told.maxTries });
      const events = await settle(tx, endings);
      await postpone(tx, waits);
      await removeDevices(
        tx,
        told.deadDeviceIds,
        held.map(({ userId }) => userId),
      );
      await emit(tx, events);
      return endings.length;
    },
    { signal },
  );
}

const keyOf = ({ notificationId, userId }: { notificationId: string; userId: string }) => `${notificationId} ${userId}`;

/** Each recipient once, with ids as the database writes them. */
function byRecipient(results: RecipientResult[]): Map<string, RecipientResult> {
  const found = new Map<string, RecipientResult>();
  for (const told of results) {
    const one = { ...told, notificationId: told.notificationId.toLowerCase(), userId: told.userId.toLowerCase() };
    const other = found.get(keyOf(one));
    if (other && other.result !== one.result) {
      throw fail(Code.InvalidArgument, "INVALID_REQUEST", "outcomes: two different outcomes for one recipient");
    }
    found.set(keyOf(one), one);
  }
  return found;
}

/** Locks what is told of and under this lease, in the order of ids: two calls about the same rows would wait for each other. */
async function lockHeld(tx: Tx, told: Results, results: RecipientResult[]): Promise<Held[]> {
  // Left out where there are none: the planner cannot know, and would expect to read most of the table.
  const ofNotifications = sql`union select notification_id, user_id from ${deliveries}
    where ${isAnyOf(sql`notification_id`, told.notificationIds)}`;
  return tx.execute<Held & Record<string, unknown>>(sql`
    with named as (
      select "notificationId" as notification_id, "userId" as user_id from ${recordsOf(results)}
      ${told.notificationIds.length > 0 ? ofNotifications : sql``}
    )
    select d.notification_id as "notificationId", d.user_id as "userId", d.failed_tries as "failedTries"
    from ${deliveries} d join named on named.notification_id = d.notification_id and named.user_id = d.user_id
    where ${isHeldBy(told.owner, told.leaseToken)}
    order by d.notification_id, d.user_id for update of d`);
}

function recordsOf(results: RecipientResult[]) {
  return sql`jsonb_to_recordset(${JSON.stringify(results)}::jsonb) as told("notificationId" uuid, "userId" uuid, result text)`;
}

/** In order is what is not held if it is processed, or if this lease has told before that it is to be tried again. */
async function refuseLost(tx: Tx, told: Results, results: Map<string, RecipientResult>, held: Held[]): Promise<void> {
  const heldKeys = new Set(held.map(keyOf));
  const rest = [...results.values()].filter((each) => !heldKeys.has(keyOf(each)));
  const heldIds = new Set(held.map(({ notificationId }) => notificationId));
  const unheldIds = told.notificationIds.map((id) => id.toLowerCase()).filter((id) => !heldIds.has(id));
  if (rest.length === 0 && unheldIds.length === 0) return;
  const isThisToken = told.leaseToken === undefined ? sql`is null` : sql`= ${told.leaseToken}`;
  // Without a token, what was told and what nobody has taken yet look the same: free, as it was told to be.
  const isTold = sql`coalesce(d.lease_owner is null and d.lease_token ${isThisToken}, false)`;
  const isMarked = sql`coalesce(r.processed_at is not null and r.lease_owner = ${told.owner} and r.lease_token ${isThisToken}, false)`;
  const lost = await tx.execute(sql`
    select 1 from ${recordsOf(rest)}
    left join ${recipients} r on r.notification_id = told."notificationId" and r.user_id = told."userId"
    left join ${deliveries} d on d.notification_id = r.notification_id and d.user_id = r.user_id
    where r.processed_at is null and not (told.result in ('retry', 'not_tried') and ${isTold})
    union all
    select 1 from jsonb_array_elements_text(${JSON.stringify(unheldIds)}::jsonb) told(id)
    where not coalesce((
      select bool_and(r.processed_at is not null) or bool_or(${isMarked})
      from ${recipients} r where r.notification_id = told.id::uuid
    ), false)
    limit 1`);
  if (lost.length === 0) return;
  throw fail(Code.Aborted, "LEASE_LOST", "a recipient is not leased to this caller under this token");
}

/** What is named by its notification only is sent. */
const resultOf = (told: RecipientResult | undefined): Result => told?.result ?? "sent";

interface Told {
  results: Map<string, RecipientResult>;
  cancelledIds: ReadonlySet<string>;
  maxTries: number;
}

/** What a result means. Of a cancelled notification nothing waits or fails. */
function decide(held: Held[], { results, cancelledIds, maxTries }: Told): { endings: Ending[]; waits: Wait[] } {
  const endings: Ending[] = [];
  const waits: Wait[] = [];
  for (const { failedTries, ...recipient } of held) {
    const told = results.get(keyOf(recipient));
    const result = resultOf(told);
    const retryAfterSeconds = told?.retryAfterSeconds ?? 0;
    const newlyFailed = result === "retry" || result === "failed" ? 1 : 0;
    const tries = failedTries + newlyFailed;
    if (result !== "sent" && cancelledIds.has(recipient.notificationId)) {
      endings.push({ ...recipient, outcome: "cancelled", newlyFailed });
    } else if (result === "failed" || (result === "retry" && tries >= maxTries)) {
      endings.push({ ...recipient, outcome: "failed", code: told!.code || "rejected", newlyFailed });
    } else if (result === "retry") {
      const seconds = Math.max(retryAfterSeconds, backoffSeconds(tries));
      waits.push({ ...recipient, failedTries: tries, seconds });
    } else if (result === "not_tried") {
      waits.push({ ...recipient, failedTries, seconds: retryAfterSeconds });
    } else {
      endings.push({ ...recipient, outcome: result });
    }
  }
  return { endings, waits };
}

/** The wait after so many tries: 10 s, then twice as long each time up to an hour, spread so that they do not all come back at once. */
export function backoffSeconds(tries: number, random = randomInt(2 ** 32) / 2 ** 32): number {
  const spread = 1 + JITTER * (2 * random - 1);
  const seconds = FIRST_WAIT_SECONDS * 2 ** (tries - 1) * spread;
  return Math.min(Math.max(seconds, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS);
}

/** Ends their leases. The token stays on the row, so that telling it again is known until somebody takes it. */
async function postpone(tx: Tx, waits: Wait[]): Promise<void> {
  if (waits.length === 0) return;
  await tx.execute(sql`
    update ${deliveries} d set lease_owner = null, claims = 0, failed_tries = told."failedTries",
      available_at = (select concierge_now()) + make_interval(secs => told.seconds)
    from jsonb_to_recordset(${JSON.stringify(waits)}::jsonb)
      as told("notificationId" uuid, "userId" uuid, "failedTries" smallint, seconds float8)
    where d.notification_id = told."notificationId" and d.user_id = told."userId"`);
}
