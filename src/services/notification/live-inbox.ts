/**
 * Inboxes as they change. One reader of the service's own feed per process hands each change to the streams of the person whom it
 * concerns. A stream loses nothing: it begins where the reader is, catches up from its cursor to there by itself, and is told to
 * list the inbox again where that cannot be. A cursor is a place in the feed, and gives no right.
 */
import { type Db, during } from "../../db/database.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import type { FeedAnswer, FeedLog, Place } from "../../feed/log.ts";
import { Alarm, type Job } from "../../jobs.ts";
import { whenAborted } from "../../rpc/until-aborted.ts";
import type { Gauge } from "../../telemetry/metrics.ts";
import { changesOf, TOUCHING_TYPES } from "./inbox-changes.ts";
import { type InboxMessage, InboxStream } from "./inbox-stream.ts";

/** Of one person in one process. */
const MAX_STREAMS = 10;
/** What the feed keeps in memory. Whoever is further back lists the inbox again, which costs less. */
const MAX_EVENTS_BACK = 2_000n;
const EVENTS_AT_ONCE = 500;
const READ_WAIT_MS = 1_000;
const KEEP_ALIVE_MS = 30_000;
const RETRY_MS = 1_000;

export interface LiveInboxOptions {
  db: Db;
  feed: FeedLog;
  /** Between two messages without a change. */
  keepAliveMs?: number;
}

export class LiveInbox {
  readonly #options: LiveInboxOptions;
  /** By person; nobody's set is empty. In a set, the oldest comes first. */
  readonly #streams = new Map<string, Set<InboxStream>>();
  readonly #begun = Promise.withResolvers<void>();
  readonly #alarm = new Alarm();
  #mustBegin = true;
  /** How far the feed was read: where streams begin that are opened now. */
  #read: Place | undefined;
  /** How far open streams were handed what was read. */
  #handed: Place | undefined;
  /** What was read and is not handed over yet, and to whom of those who were connected when it was read. */
  #batch: (FeedAnswer & { userIds: ReadonlySet<string> }) | undefined;

  constructor(options: LiveInboxOptions) {
    this.#options = options;
  }

  /** How many streams are open. */
  get size(): number {
    return [...this.#streams.values()].reduce((total, { size }) => total + size, 0);
  }

  /** Reads the feed for as long as the process runs; what fails is tried again. */
  job(): Job {
    const run = async (signal: AbortSignal) => {
      await this.#readOn(signal);
      this.#alarm.ring();
    };
    return { name: "live inbox", everyMs: RETRY_MS, alarm: this.#alarm, run };
  }

  /** What /metrics shows of it. */
  gauge(): Gauge {
    return { name: "notification_inbox_streams", help: "Open streams of inboxes", read: () => this.size };
  }

  /**
   * What happens in this person's inbox from the cursor on, or from now on (""), until `signal` aborts. INVALID_ARGUMENT /
   * INVALID_CURSOR, RESOURCE_EXHAUSTED / TOO_MANY_STREAMS.
   */
  async *watch(
    { userId, cursor }: { userId: string; cursor: string },
    signal: AbortSignal,
  ): AsyncGenerator<InboxMessage, void> {
    const from = cursor === "" ? undefined : placeOf(cursor);
    if (!this.#read) await Promise.race([this.#begun.promise, whenAborted(signal)]);
    using opened = this.#open(userId, signal);
    // Not later: what is read from now on is handed to the stream.
    const here = this.#read!;
    let place = here;
    if (from) place = yield* this.#catchUp({ userId, from, here }, opened.stream);
    else yield { place };
    for (;;) {
      // Not after the wait: by then something may be queued that is before it.
      const handed = this.#handed!;
      const message = await opened.stream.next(this.#options.keepAliveMs ?? KEEP_ALIVE_MS);
      if (message && isUpTo(place, message.place)) continue;
      if (message) place = message.place;
      else if (isUpTo(handed, place)) place = handed;
      yield message ?? { place };
    }
  }

  #open(userId: string, signal: AbortSignal) {
    const stream = new InboxStream();
    const streams = this.#streams.get(userId) ?? new Set();
    this.#streams.set(userId, streams.add(stream));
    const close = (reason: unknown) => {
      stream.end(reason);
      streams.delete(stream);
      if (streams.size === 0 && this.#streams.get(userId) === streams) this.#streams.delete(userId);
    };
    const onAbort = () => close(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    if (streams.size > MAX_STREAMS) {
      const [oldest] = streams;
      streams.delete(oldest!);
      oldest!.end(fail(Code.ResourceExhausted, "TOO_MANY_STREAMS", "a newer stream has taken the place of this one"));
    }
    return {
      stream,
      [Symbol.dispose]() {
        signal.removeEventListener("abort", onAbort);
        close(undefined);
      },
    };
  }

  /** From a cursor to where streams begin that are opened now, or a little further; returns how far. Throws when the stream ends. */
  async *#catchUp(
    { userId, from, here }: { userId: string; from: Place; here: Place },
    { signal }: InboxStream,
  ): AsyncGenerator<InboxMessage, Place> {
    const resync = { place: here, change: "resync" } as const;
    if (from.epoch !== here.epoch || here.position - from.position > MAX_EVENTS_BACK) {
      yield resync;
      return here;
    }
    const { db } = this.#options;
    let place = from;
    do {
      const answer = await this.#eventsAfter(place, signal);
      if (!answer) {
        yield resync;
        return here;
      }
      if (place === from) yield { place };
      const changes = await changesOf(during(db, signal), answer.events, new Set([userId])).catch(
        unlessAborted(signal),
      );
      for (const change of changes) {
        signal.throwIfAborted();
        yield { place: { epoch: place.epoch, position: change.position }, change };
      }
      place = answer.next;
    } while (place.position < here.position);
    return place;
  }

  /** Undefined for a place that is not in the feed, or not any more. */
  async #eventsAfter(from: Place, signal: AbortSignal): Promise<FeedAnswer | undefined> {
    const query = { from, types: TOUCHING_TYPES, maxWaitMs: 0, limit: EVENTS_AT_ONCE, signal };
    return this.#options.feed.read(query).catch((error: unknown) => {
      if (reasonOf(error) === "CURSOR_LOST") return undefined;
      return unlessAborted(signal)(error);
    });
  }

  async #readOn(signal: AbortSignal): Promise<void> {
    if (this.#mustBegin) await this.#begin(signal);
    this.#batch ??= await this.#nextBatch(signal);
    if (!this.#batch) return;
    const { events, next, userIds } = this.#batch;
    const changes = await changesOf(during(this.#options.db, signal), events, userIds);
    for (const change of changes) {
      const message = { place: { epoch: next.epoch, position: change.position }, change };
      for (const stream of this.#streams.get(change.userId) ?? []) stream.push(message);
    }
    this.#handed = next;
    this.#batch = undefined;
  }

  /** At the newest place; what is open has missed something, unless this is the start. */
  async #begin(signal: AbortSignal): Promise<void> {
    const query = { types: TOUCHING_TYPES, maxWaitMs: 0, limit: 1, signal };
    const { next } = await this.#options.feed.read({ ...query, from: "newest" });
    this.#mustBegin = false;
    this.#read = next;
    this.#handed = next;
    for (const streams of this.#streams.values()) for (const stream of streams) stream.restart(next);
    this.#begun.resolve();
  }

  async #nextBatch(signal: AbortSignal) {
    const query = { types: TOUCHING_TYPES, maxWaitMs: READ_WAIT_MS, limit: EVENTS_AT_ONCE, signal };
    try {
      const answer = await this.#options.feed.read({ ...query, from: this.#read! });
      // Together: whoever connects from now on begins behind this batch.
      this.#read = answer.next;
      return { ...answer, userIds: new Set(this.#streams.keys()) };
    } catch (error) {
      if (reasonOf(error) !== "CURSOR_LOST") throw error;
      this.#mustBegin = true;
      return undefined;
    }
  }
}

/** Throws the reason of an abort rather than the failure of what it cut. */
function unlessAborted(signal: AbortSignal): (error: unknown) => never {
  return (error) => {
    signal.throwIfAborted();
    throw error;
  };
}

/** Whether `place` is no further than `end`, in the same feed. */
function isUpTo(end: Place, place: Place): boolean {
  return place.epoch === end.epoch && place.position <= end.position;
}

/** Where a later stream goes on, as text. */
export function cursorOf({ epoch, position }: Place): string {
  return `${epoch}-${position}`;
}

function placeOf(cursor: string): Place {
  const [, epoch, position] = /^([0-9a-f]{16})-(\d{1,18})$/.exec(cursor) ?? [];
  if (epoch !== undefined && position !== undefined) return { epoch, position: BigInt(position) };
  throw fail(Code.InvalidArgument, "INVALID_CURSOR", "the cursor is not one that a stream gave");
}
