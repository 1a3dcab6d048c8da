/**
 * A service's way to act on another one's events, with an effect in its own database: the effect and the cursor are one
 * transaction, so an event is done once, whatever dies and however many replicas run. An event that cannot be done is parked
 * (parked-events.ts) and holds up nothing but its own subject.
 */
import { setTimeout as delay } from "node:timers/promises";
import { durationFromMs, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import { type Event, type FeedInternalService, Start } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import type { Clock } from "../clock.ts";
import { type Db, type Tx, transaction } from "../db/database.ts";
import { isUnavailable, sqlStateOf, toConnectError, withoutData } from "../db/errors.ts";
import { reasonOf } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Logger } from "../log.ts";
import { CursorMoved, loadCursor, moveCursor } from "./cursors.ts";
import { type Effect, type Effects, UnreadablePayload } from "./effects.ts";
import { emit, type OutboxEvent } from "./emit.ts";
import { countParked, parkEvent, parkedSubjects, retryParked } from "./parked-events.ts";
import type { FeedEvent, Place } from "./tail.ts";

export { on } from "./effects.ts";

const READ_WAIT_MS = 1_000;
const READ_TIMEOUT_MS = 5_000;
const EVENTS_PER_READ = 200;
const FIRST_PAUSE_MS = 100;
/** So that what follows is there again a second after whatever was away. Asking costs little beside that. */
const MAX_PAUSE_MS = 1_000;
/** After an empty answer that came at once, as from a source that is about to stop: it would be asked again and again. */
const QUICK_ANSWER_MS = 50;
const MAX_FAILURES = 5;
/** Some three seconds. */
const FAILURES_OF_A_START = 5;
/** A cursor that only passes events of others is written no more often than this. */
const PASSING_WRITE_MS = 1_000;
const RETRY_PARKED_MS = 60_000;
/** How often it is looked whether that time has come. */
const RETRY_LOOK_MS = 250;

/** What a service does on another's events. It has at most one for each source, whose cursor all of the effects share. */
export interface Follower {
  /** Name of the followed service, one of the service's peers. */
  source: string;
  /** Whether the service answers only once this has caught up; it does unless told otherwise. */
  isAwaited?: false;
  /** One for each event: made by on(). One that is added later begins where the cursor is then. */
  effects: Effect[];
}

export interface FollowerOptions {
  follower: Follower;
  /** Name of the service that follows. */
  service: string;
  /** Its database. */
  db: Db;
  /** The feed of the source. */
  client: Pick<Client<typeof FeedInternalService>, "read">;
  clock: Clock;
  log: Logger;
  /** A number in [0, 1) for the jitter of pauses. */
  random?: () => number;
  /** How often parked events are tried again, by `clock`; a minute unless told otherwise. */
  everyMs?: number;
}

export interface RunningFollower extends AsyncDisposable {
  readonly source: string;
  /**
   * Resolves when it has, for the first time, everything that was there when it asked; rejects never, and waits for ever if it is
   * disposed of before.
   */
  readonly caughtUp: Promise<void>;
  /** Monotonic time at which it SENT the last Read that came back complete and whose events are all done or parked; undefined before. */
  readonly freshAt: number | undefined;
  /** Parked events now, as last counted. */
  readonly parked: number;
}

/** Starts following; disposing stops after the transaction under way. */
export function startFollower(options: FollowerOptions): RunningFollower {
  return new Following(options);
}

/** Where it is: the cursor as it is stored, and where to read on, which is further while events of no interest pass. */
interface Standing {
  stored: Place | undefined;
  /** The oldest event that is kept when undefined. */
  readOn: Place | undefined;
}

class Following implements RunningFollower {
  readonly source: string;
  readonly caughtUp: Promise<void>;
  freshAt: number | undefined;
  parked = 0;
  readonly #options: FollowerOptions;
  readonly #effects: Effects;
  readonly #log: Logger;
  readonly #end = new AbortController();
  readonly #firstFresh = Promise.withResolvers<void>();
  readonly #running: Promise<unknown>;
  /** Undefined while nobody knows: before it is loaded, and from the begin of a transaction until it is known how that ended. */
  #standing: Standing | undefined;
  #writtenAt = Number.NEGATIVE_INFINITY;
  #counts = 0;
  #waitsFor: string | undefined;

  constructor(options: FollowerOptions) {
    const { follower, service, log } = options;
    this.source = follower.source;
    this.caughtUp = this.#firstFresh.promise;
    this.#options = options;
    this.#log = log.child({ follower: service, source: follower.source });
    this.#effects = new Map(follower.effects.map((effect) => [effect.type, effect]));
    if (this.#effects.size < follower.effects.length) throw new Error(`${service} has two effects of one event`);
    this.#running = Promise.all([this.#follow(), this.#retryParked()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#running;
  }

  async #follow(): Promise<void> {
    for (let failures = 0; !this.#end.signal.aborted; ) {
      try {
        await this.#round();
        failures = 0;
        if (this.#waitsFor !== undefined) this.#log.info(`follows ${this.source} again`);
        this.#waitsFor = undefined;
      } catch (error) {
        if (this.#end.signal.aborted) continue;
        if (reasonOf(error) === "CURSOR_LOST" && this.#standing?.readOn) this.#beginAnew(this.#standing.stored);
        else await this.#waitAfter(error, failures++);
      }
    }
  }

  /** One Read, and everything that follows from its answer. */
  async #round(): Promise<void> {
    this.#standing ??= await this.#load();
    const sentAt = this.#options.clock.monotonic();
    const asked = this.#standing.readOn;
    const { events, next, complete } = await this.#read(asked);
    try {
      if (events.length > 0) await this.#take(events, next, this.#standing.stored);
      else await this.#pass(next, this.#standing.stored);
    } catch (error) {
      if (!(error instanceof CursorMoved)) throw error;
      // Another replica was first. What it has done, this one need not do.
      this.#standing = await this.#load();
      if (!isPast(this.#standing.stored, next)) return;
    }
    if (complete) {
      this.freshAt = sentAt;
      this.#firstFresh.resolve();
    }
    const isQuick = this.#options.clock.monotonic() - sentAt < QUICK_ANSWER_MS;
    if (!isQuick || next.position !== asked?.position) return;
    await delay(QUICK_ANSWER_MS, undefined, { signal: this.#end.signal }).catch(() => {});
  }

  async #load(): Promise<Standing> {
    const stored = await loadCursor(this.#options.db, this.source);
    return { stored, readOn: stored };
  }

  async #read(place: Place | undefined): Promise<{ events: FeedEvent[]; next: Place; complete: boolean }> {
    const answer = await this.#options.client.read(
      {
        service: this.source,
        from: place ? { case: "cursor", value: place } : { case: "start", value: Start.OLDEST },
        types: [...this.#effects.keys()],
        // Until it has caught up, somebody waits for that.
        maxWait: durationFromMs(this.freshAt === undefined ? 0 : READ_WAIT_MS),
        limit: EVENTS_PER_READ,
      },
      { signal: this.#end.signal, timeoutMs: READ_TIMEOUT_MS },
    );
    if (!answer.next) throw new Error(`${this.source} answered without a cursor`);
    const { epoch, position } = answer.next;
    return { events: answer.events.map(unpackEvent), next: { epoch, position }, complete: answer.complete };
  }

  /** Only other events were passed: the cursor is written, but not at every Read. */
  async #pass(next: Place, stored: Place | undefined): Promise<void> {
    const { clock, db } = this.#options;
    const isThere = stored?.epoch === next.epoch && stored.position === next.position;
    const isRecent = stored?.epoch === next.epoch && clock.monotonic() - this.#writtenAt < PASSING_WRITE_MS;
    if (isThere || isRecent) {
      this.#standing = { stored, readOn: next };
      return;
    }
    this.#standing = undefined;
    await moveCursor(db, this.source, stored, next);
    this.#writtenAt = clock.monotonic();
    this.#standing = { stored: next, readOn: next };
  }

  /** Does the events: all in one transaction, or one by one if that fails. */
  async #take(events: FeedEvent[], next: Place, stored: Place | undefined): Promise<void> {
    this.#standing = undefined;
    if (!(await this.#takeTogether(events, stored, next))) {
      let from = stored;
      for (const event of events) {
        this.#end.signal.throwIfAborted();
        const to = event === events.at(-1) ? next : { epoch: next.epoch, position: event.position };
        await this.#takeOne(event, from, to);
        from = to;
      }
    }
    this.#standing = { stored: next, readOn: next };
  }

  async #takeTogether(events: FeedEvent[], from: Place | undefined, to: Place): Promise<boolean> {
    if (events.length === 1) return false;
    try {
      await this.#commit(events, from, to);
      return true;
    } catch (error) {
      if (isPassing(error)) throw error;
      return false;
    }
  }

  async #takeOne(event: FeedEvent, from: Place | undefined, to: Place): Promise<void> {
    for (let failures = 0; ; ) {
      try {
        return await this.#commit([event], from, to);
      } catch (error) {
        if (isPassing(error)) throw error;
        failures += 1;
        if (failures === MAX_FAILURES || error instanceof UnreadablePayload) {
          return await this.#park(event, from, to, error);
        }
        await this.#pause(failures - 1);
      }
    }
  }

  async #commit(events: FeedEvent[], from: Place | undefined, to: Place): Promise<void> {
    const { db, random } = this.#options;
    const parked = await transaction(
      db,
      async (tx) => {
        // First: of two replicas the slower one waits here, and has done nothing in vain.
        await moveCursor(tx, this.source, from, to);
        const parkedNow = await this.#runEffects(tx, events);
        await failpoint("follower.before_commit");
        return parkedNow;
      },
      { random },
    );
    if (parked > 0) await this.#countParked();
    await failpoint("follower.after_commit");
  }

  /** Returns how many were parked, because others about their subjects are. */
  async #runEffects(tx: Tx, events: FeedEvent[]): Promise<number> {
    const subjects = await parkedSubjects(tx, this.source, [...new Set(events.map(({ subject }) => subject))]);
    const published: OutboxEvent[] = [];
    let parked = 0;
    for (const event of events) {
      if (subjects.has(event.subject)) {
        await parkEvent(tx, this.source, event);
        parked += 1;
      } else {
        published.push(...((await this.#effects.get(event.type)?.prepare(event)(tx)) ?? []));
      }
    }
    await emit(tx, published);
    return parked;
  }

  async #park(event: FeedEvent, from: Place | undefined, to: Place, error: unknown): Promise<void> {
    const { db, random } = this.#options;
    await transaction(
      db,
      async (tx) => {
        await parkEvent(tx, this.source, event);
        await moveCursor(tx, this.source, from, to);
      },
      { random },
    );
    await this.#countParked();
    const { id, type, subject } = event;
    this.#log.error({ event: id, type, subject, reason: nameOf(error) }, "an event was parked");
  }

  async #retryParked(): Promise<void> {
    const { db, clock, everyMs = RETRY_PARKED_MS } = this.#options;
    const { signal } = this.#end;
    for (let triedAt = Number.NEGATIVE_INFINITY; !signal.aborted; ) {
      if (clock.monotonic() - triedAt >= everyMs) {
        triedAt = clock.monotonic();
        try {
          await retryParked({ db, source: this.source, effects: this.#effects, signal });
          await this.#countParked();
        } catch (error) {
          if (!isPassing(error)) this.#log.warn({ error: withoutData(error) }, "parked events were not tried again");
        }
      }
      await delay(Math.min(everyMs, RETRY_LOOK_MS), undefined, { signal }).catch(() => {});
    }
  }

  /** Of counts under way at once the newest is right: it began when everything that is known here was committed. */
  async #countParked(): Promise<void> {
    const number = ++this.#counts;
    const found = await countParked(this.#options.db, this.source);
    if (number === this.#counts) this.parked = found;
  }

  #beginAnew(stored: Place | undefined): void {
    this.#log.warn(`the feed of ${this.source} has lost the cursor: following it from its oldest event`);
    this.#standing = { stored, readOn: undefined };
  }

  /** Logs once in an outage. */
  async #waitAfter(error: unknown, failures: number): Promise<void> {
    const missing = this.#standing ? this.source : "its database";
    // Services that start together wait for each other in any case.
    const isStart = this.freshAt === undefined && failures < FAILURES_OF_A_START;
    if (this.#waitsFor !== missing && !isStart) {
      this.#log.warn({ error: withoutData(error) }, `follower waits for ${missing}`);
      this.#waitsFor = missing;
    }
    await this.#pause(failures).catch(() => {});
  }

  /** Grows with the failures before; ends with an error when the follower does. */
  async #pause(failures: number): Promise<void> {
    const { random = Math.random } = this.#options;
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** failures, MAX_PAUSE_MS);
    await delay(pauseMs * (0.5 + random() / 2), undefined, { signal: this.#end.signal });
  }
}

/** True if a cursor has come as far as this place. */
function isPast(stored: Place | undefined, { epoch, position }: Place): boolean {
  return stored?.epoch === epoch && stored.position >= position;
}

function unpackEvent({ position, id, type, subject, version, createdAt, payload }: Event): FeedEvent {
  if (!createdAt) throw new Error(`event ${id} came without its time`);
  return { position, id, type, subject, version, createdAt: timestampDate(createdAt), payload };
}

/** It is no fault of the event: the database is away, somebody was in the way, or another replica was first. */
function isPassing(error: unknown): boolean {
  if (error instanceof CursorMoved || isUnavailable(error)) return true;
  return reasonOf(toConnectError(error) ?? error) === "CONFLICT";
}

/** What kind of error it was, without a word of what it says. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const name = error.name === "Error" ? error.constructor.name : error.name;
  return [name, sqlStateOf(error)].filter(Boolean).join(" ");
}
