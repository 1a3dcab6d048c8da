/**
 * The feed's RPCs, for every service of the process: they share one path on one listener, so the service that a token was made for
 * says whose feed is meant, and the request must name the same.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext } from "@connectrpc/connect";
import {
  type CursorSchema,
  type EventSchema,
  FeedInternalService,
  type FollowingSchema,
  type ReadRequest,
  ReadRequestSchema,
  ReadResponseSchema,
  Start,
} from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { Code, fail } from "../errors.ts";
import { keyHolderOf, scopeOf } from "../rpc/call.ts";
import { type Implementation, implement } from "../service.ts";
import type { FeedReader } from "./live-follower.ts";
import type { FeedLog } from "./log.ts";
import { type EventReaders, readableTypes } from "./readers.ts";
import type { FeedEvent, Place } from "./tail.ts";

/** One service's feed, and what it knows of the feeds that the service follows. */
export interface ServedFeed {
  log: FeedLog;
  readers: EventReaders;
  /** False until the service has seen its database's schema. */
  isStarted(): boolean;
  following(): Promise<MessageInitShape<typeof FollowingSchema>[]>;
}

const MAX_WAIT_MS = 1_000;
const DEFAULT_LIMIT = 500;
const MAX_LIMIT = 1_000;

/** Implements the service for these feeds, by the names of their services. */
export function feedHandlers(feeds: ReadonlyMap<string, ServedFeed>): Implementation {
  return implement(FeedInternalService, {
    async read(request, context) {
      const { log, readers } = feedFor(feeds, request.service, context);
      const types = readableTypes(readers, keyHolderOf(scopeOf(context)), request.types);
      return readFeed(log, request, types, context.signal);
    },
    async getStatus(request, context) {
      const { log, following } = feedFor(feeds, request.service, context);
      const { head, trimmed, pending } = await log.status();
      return {
        head: packPlace(head),
        trimmedPosition: trimmed,
        pending: BigInt(pending),
        following: await following(),
      };
    },
  });
}

/** A service's way to follow its own feed: what its other processes do reaches it like what others do. */
export function ownFeed(log: FeedLog): FeedReader {
  return {
    async read(init, options) {
      const request = create(ReadRequestSchema, init);
      const signal = options?.signal ?? new AbortController().signal;
      return create(ReadResponseSchema, await readFeed(log, request, new Set(request.types), signal));
    },
  };
}

async function readFeed(log: FeedLog, request: ReadRequest, types: ReadonlySet<string>, signal: AbortSignal) {
  const { events, next, complete } = await log.read({
    from: startOf(request),
    types,
    maxWaitMs: request.maxWait ? Math.min(durationMs(request.maxWait), MAX_WAIT_MS) : 0,
    limit: Math.min(request.limit || DEFAULT_LIMIT, MAX_LIMIT),
    signal,
  });
  return { events: events.map(packEvent), next: packPlace(next), complete };
}

function feedFor(feeds: ReadonlyMap<string, ServedFeed>, service: string, context: HandlerContext): ServedFeed {
  const { callee } = keyHolderOf(scopeOf(context));
  const feed = feeds.get(callee);
  if (service !== callee || !feed) {
    throw fail(
      Code.PermissionDenied,
      "CALLER_NOT_ALLOWED",
      "the service token is for another service than this feed's",
    );
  }
  if (!feed.isStarted())
    throw fail(Code.Unavailable, "UNAVAILABLE", "the service is starting", { retryAfterMs: 1_000 });
  return feed;
}

function startOf({ from }: ReadRequest): Place | "newest" | "oldest" {
  switch (from.case) {
    case "cursor":
      return { epoch: from.value.epoch, position: from.value.position };
    case "start":
      return from.value === Start.OLDEST ? "oldest" : "newest";
    case undefined:
      return "newest";
  }
}

/** A place as the contract has it. */
export function packPlace({ epoch, position }: Place): MessageInitShape<typeof CursorSchema> {
  return { epoch, position };
}

function packEvent({ createdAt, ...event }: FeedEvent): MessageInitShape<typeof EventSchema> {
  return { ...event, createdAt: timestampFromDate(createdAt) };
}
