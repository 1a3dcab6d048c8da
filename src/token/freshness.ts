/**
 * May this session still be used? Every service but auth decides it from memory: it holds the sessions that have ended, told
 * by auth's feed, and knows how old that knowledge is. Past FRESH_MS it asks auth for the one session; when that fails too, the
 * method's rule decides. A session that is known to have ended is refused whatever else is known.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { LRUCache } from "lru-cache";
import { SessionEndedSchema, SigningKeyRemovedSchema } from "../../gen/concierge/auth/v1/auth_events_pb.ts";
import type { CheckSessionResponse, ListEndedSessionsResponse } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import type { Event } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import type { Clock } from "../clock.ts";
import { type Beginning, type FeedReader, type LiveFollower, startLiveFollower } from "../feed/live-follower.ts";
import type { SimpleLog } from "../simple-log.ts";
import type { AccessClaims } from "./access-token.ts";
import { EndedSessions } from "./ended-sessions.ts";
import { createSessionCheck, type SessionCheck, type WhenStale } from "./session-check.ts";

/** How old knowledge may be. With the 250 ms that `complete` leaves open it stays under the promised five seconds. */
export const FRESH_MS = 4_500;
const PAGE_TIMEOUT_MS = 5_000;
/** Sessions that auth was asked about lately. */
const REMEMBERED_ANSWERS = 10_000;

/** What is asked of auth: by calls, and by auth itself without. */
export interface SessionSource {
  checkSession(
    request: { sessionId: string; generation: number },
    options: { signal: AbortSignal },
  ): Promise<CheckSessionResponse>;
  listEndedSessions(
    request: { pageToken: string },
    options: { signal: AbortSignal; timeoutMs: number },
  ): Promise<ListEndedSessionsResponse>;
}

export interface FollowSessionsOptions {
  /** auth's feed. */
  feed: FeedReader;
  auth: SessionSource;
  clock: Clock;
  log: SimpleLog;
  /** Whether methods that say so go on while nobody can tell whether a session lives. */
  allowStale: boolean;
  /** How old knowledge may be, at most FRESH_MS, which it is unless told. */
  freshMs?: number;
  /** Called for each call that goes on so. */
  onStale?(): void;
  /** Told each signing key that was removed, by its `kid`; maybe more than once. */
  onKeyRemoved(kid: string): void;
}

export interface SessionWatch extends AsyncDisposable {
  /** The followed service. */
  readonly source: string;
  readonly check: SessionCheck;
  /** Monotonic time at which everything was known (live-follower.ts). */
  readonly freshAt: number | undefined;
  /** Resolves when freshAt is set for the first time. */
  readonly caughtUp: Promise<void>;
  /** How many ended sessions are held. */
  readonly endedCount: number;
  /** Calls back once, as soon as this session is known to have ended: at once if it is. Returns what stops that. */
  readonly onEnded: (sessionId: string, listener: () => void) => () => void;
}

/** Starts to follow auth's sessions. Disposing stops it. */
export function followSessions(options: FollowSessionsOptions): SessionWatch {
  const { feed, clock, log } = options;
  const ended = new EndedSessions(clock);
  const follower = startLiveFollower({
    source: "auth",
    types: [SessionEndedSchema, SigningKeyRemovedSchema],
    client: feed,
    begin: (signal) => listEnded(options, ended, signal),
    onEvents: (events) => events.forEach((event) => void heed(event, ended, options)),
    clock,
    log,
  });
  return {
    source: follower.source,
    check: createCheck(options, ended, follower),
    get freshAt() {
      return follower.freshAt;
    },
    caughtUp: follower.caughtUp,
    get endedCount() {
      return ended.size;
    },
    onEnded: (sessionId, listener) => ended.onEnded(sessionId, listener),
    async [Symbol.asyncDispose]() {
      await follower[Symbol.asyncDispose]();
      ended[Symbol.dispose]();
    },
  };
}

/** Adds all that ended lately to what is held; the feed is followed from where the first page stood. */
async function listEnded(
  { auth, onKeyRemoved }: FollowSessionsOptions,
  ended: EndedSessions,
  signal: AbortSignal,
): Promise<Beginning> {
  let beginning: Beginning | undefined;
  let pageToken = "";
  do {
    const page = await auth.listEndedSessions({ pageToken }, { signal, timeoutMs: PAGE_TIMEOUT_MS });
    if (!page.start) throw new Error("auth does not say where its feed goes on");
    beginning ??= { start: page.start, settledPosition: page.settledPosition };
    for (const { sessionId, tokensExpireAt } of page.sessions) ended.hold(sessionId, msOf(tokensExpireAt));
    page.removedKeyIds.forEach(onKeyRemoved);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return beginning;
}

/** One that cannot be read stops the follower, and with it all freshness: nothing is passed over. */
function heed({ type, payload }: Event, ended: EndedSessions, { onKeyRemoved }: FollowSessionsOptions): void {
  if (type === SigningKeyRemovedSchema.typeName) {
    onKeyRemoved(fromBinary(SigningKeyRemovedSchema, payload).keyId);
  } else {
    const { sessionId, tokensExpireAt } = fromBinary(SessionEndedSchema, payload);
    ended.hold(sessionId, msOf(tokensExpireAt));
  }
}

function msOf(time: Timestamp | undefined): number | undefined {
  return time && timestampMs(time);
}

/** Whether something known at this time counts, or will still count in a while. */
type IsFresh = (at: number | undefined, leadMs?: number) => boolean;

function createCheck(options: FollowSessionsOptions, ended: EndedSessions, follower: LiveFollower): SessionCheck {
  const { clock, freshMs = FRESH_MS } = options;
  const isFresh: IsFresh = (at, leadMs = 0) => at !== undefined && clock.monotonic() - at + leadMs <= freshMs;
  const { wasLive, ask } = createQuestions(options, ended, isFresh);
  const goOn = async (claims: AccessClaims, whenStale: WhenStale) => {
    try {
      return await ask(claims);
    } catch (error) {
      if (!options.allowStale || whenStale === "closed") throw error;
      // It may have ended while the question was on its way.
      if (ended.has(claims.sessionId)) return false;
      options.onStale?.();
      return true;
    }
  };
  return (claims, whenStale, leadMs) => {
    if (ended.has(claims.sessionId)) return false;
    return isFresh(follower.freshAt, leadMs) || wasLive(claims, leadMs) || goOn(claims, whenStale);
  };
}

/** Questions to auth about one session. An answer counts from when the question was sent, as a Read of the feed does. */
function createQuestions({ auth, clock }: FollowSessionsOptions, ended: EndedSessions, isFresh: IsFresh) {
  const liveAt = new LRUCache<string, number>({ max: REMEMBERED_ANSWERS });
  const nameOf = (sessionId: string, generation: number) => `${sessionId}/${generation}`;
  const askOnce = createSessionCheck(async (sessionId, generation, signal) => {
    const sentAt = clock.monotonic();
    const { live } = await auth.checkSession({ sessionId, generation }, { signal });
    // This process may have stood still since, or the answer may be about a time that is long over.
    if (live && !isFresh(sentAt)) throw new Error("the answer came too late");
    if (live) liveAt.set(nameOf(sessionId, generation), sentAt);
    return live;
  });
  return {
    wasLive: ({ sessionId, generation }: AccessClaims, leadMs?: number) =>
      isFresh(liveAt.get(nameOf(sessionId, generation)), leadMs),
    async ask(claims: AccessClaims): Promise<boolean> {
      const live = await askOnce(claims);
      // Held like one that the feed told of: it must not come back when auth cannot be asked any more.
      if (!live) ended.hold(claims.sessionId, claims.expiresAt * 1_000);
      return live && !ended.has(claims.sessionId);
    },
  };
}
