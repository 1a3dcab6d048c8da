/**
 * The sessions that ended while access tokens of theirs may still look good: the snapshot from which others follow the feed's
 * SessionEnded. Between the two nothing is missing: what a page lacks comes after the place that it says to go on from.
 */
import { and, asc, gt, isNotNull, sql } from "drizzle-orm";
import { validate as isUuid } from "uuid";
import { Code, fail } from "../../errors.ts";
import type { Place } from "../../feed/tail.ts";
import { TOLERANCE_SECONDS } from "../../token/compact.ts";
import { removedKeys, sessions } from "./schema.ts";
import type { AuthContext } from "./service.ts";

const LARGEST_PAGE = 10_000;
/** Once for tokens, which are accepted a little longer, and once for the clocks of those who accept them. */
const LONGER_SECONDS = 2 * TOLERANCE_SECONDS;

export interface EndedSessionsPage {
  sessions: { sessionId: string; tokensExpireAt: Date }[];
  /** Empty on the last. */
  nextPageToken: string;
  /** Where to follow the feed from, and the position to pass before everything is known. */
  start: Place;
  settledPosition: bigint;
  /** Of the signing keys that were removed, on every page. */
  removedKeyIds: string[];
}

/** One page of them. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listEndedSessions(
  { feed }: Pick<AuthContext, "feed">,
  signal: AbortSignal,
  input: { pageSize: number; pageToken: string },
): Promise<EndedSessionsPage> {
  const pageSize = Math.min(input.pageSize || LARGEST_PAGE, LARGEST_PAGE);
  const isAfter = input.pageToken === "" ? undefined : gt(sessions.id, readPageToken(input.pageToken));
  const counts = sql`(select concierge_now()) - make_interval(secs => ${LONGER_SECONDS})`;
  const { result, start, settled } = await feed.snapshot(
    async (tx) => ({
      ended: await tx
        .select({ sessionId: sessions.id, tokensExpireAt: sessions.tokensExpireAt })
        .from(sessions)
        .where(and(isNotNull(sessions.endedAt), gt(sessions.tokensExpireAt, counts), isAfter))
        .orderBy(asc(sessions.id))
        .limit(pageSize + 1),
      removed: await tx.select({ keyId: removedKeys.keyId }).from(removedKeys),
    }),
    { signal },
  );
  const page = result.ended.slice(0, pageSize);
  const nextPageToken = result.ended.length > pageSize ? pageTokenOf(page.at(-1)!.sessionId) : "";
  const removedKeyIds = result.removed.map(({ keyId }) => keyId);
  return { sessions: page, nextPageToken, start, settledPosition: settled, removedKeyIds };
}

function pageTokenOf(lastId: string): string {
  return Buffer.from(lastId).toString("base64url");
}

function readPageToken(token: string): string {
  const id = Buffer.from(token, "base64url").toString();
  if (isUuid(id) && pageTokenOf(id) === token) return id;
  throw fail(Code.InvalidArgument, "INVALID_PAGE_TOKEN", "the page token is not one that this method gave");
}
