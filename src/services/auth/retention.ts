/** What auth deletes when nobody needs it any more, in small batches: sessions that are long over, full buckets, old device tokens, stale requests. */
import { type SQL, sql } from "drizzle-orm";
import type { Db } from "../../db/database.ts";
import type { Job } from "../../jobs.ts";
import { isStaleRequest } from "./mail-requests.ts";
import { attemptBuckets, deviceTokens, mailRequests, refreshTokens, sessions } from "./schema.ts";

const EVERY_MS = 60_000;
const AT_ONCE = 500;
/** A session that was refreshed for a month has thousands: they go before it, or one statement would have to delete them all. */
const TOKENS_AT_ONCE = 10_000;

/** The job. What is locked is left for the next run. */
export function sweepAuth(db: Db): Job {
  return {
    name: "sweep sessions, attempts and devices",
    everyMs: EVERY_MS,
    async run(signal) {
      await sweepSessions(db, endedSessions, signal);
      await sweepSessions(db, expiredSessions, signal);
      await sweep(db, attemptBucketsOver, AT_ONCE, signal);
      await sweep(db, deviceTokensOver, AT_ONCE, signal);
      await sweep(db, mailRequestsOver, AT_ONCE, signal);
    },
  };
}

/* The time stands in sub-queries, which are run once: with the volatile function itself no condition could use an index. */

/** Not before the last access token is an hour past its end, too: until then others want to know that the session has ended. */
const areTokensOver = sql`tokens_expire_at < (select concierge_now()) - interval '1 hour'`;

const endedSessions = sql`
  select id from ${sessions} where ended_at < (select concierge_now()) - interval '1 day' and ${areTokensOver}
  order by tokens_expire_at limit ${AT_ONCE}`;

const expiredSessions = sql`
  select id from ${sessions} where expires_at < (select concierge_now()) - interval '1 day' and ${areTokensOver}
  order by expires_at limit ${AT_ONCE}`;

const attemptBucketsOver = sql`
  delete from ${attemptBuckets} where key in (
    select key from ${attemptBuckets} where expires_at < (select concierge_now()) limit ${AT_ONCE} for update skip locked)
  returning 1`;

const deviceTokensOver = sql`
  delete from ${deviceTokens} where token_hash in (
    select token_hash from ${deviceTokens} where expires_at < (select concierge_now()) limit ${AT_ONCE} for update skip locked)
  returning 1`;

const mailRequestsOver = sql`
  delete from ${mailRequests} where id in (
    select id from ${mailRequests} where ${isStaleRequest} limit ${AT_ONCE} for update skip locked)
  returning 1`;

async function sweepSessions(db: Db, over: SQL, signal: AbortSignal): Promise<void> {
  const tokens = sql`
    delete from ${refreshTokens} where (session_id, number) in (
      select session_id, number from ${refreshTokens} join (${over}) session on session.id = session_id limit ${TOKENS_AT_ONCE})
    returning 1`;
  const batch = sql`delete from ${sessions} where id in (${over} for update skip locked) returning 1`;
  do await sweep(db, tokens, TOKENS_AT_ONCE, signal);
  while (!signal.aborted && (await db.execute(batch)).length === AT_ONCE);
}

/** Runs a statement that deletes `most` rows for as long as it does. */
async function sweep(db: Db, statement: SQL, most: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await db.execute(statement)).length === most);
}
