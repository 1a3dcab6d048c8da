/**
 * Publishes a service's own feed to Kafka, at least once. One process at a time does it (a lease), from a cursor in the service's
 * database that is moved, by compare-and-set, after the brokers have acknowledged. So whatever dies or stands still only repeats
 * events: in each partition the first appearances of one subject's events are in the order of their versions.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../clock.ts";
import { type Db, transaction } from "../db/database.ts";
import { withoutData } from "../db/errors.ts";
import { reasonOf } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import { CursorMoved, loadCursor, moveCursor } from "../feed/cursors.ts";
import { holdLease, releaseLease } from "../feed/leases.ts";
import type { FeedAnswer, FeedLog } from "../feed/log.ts";
import { countParked, oldestParked, parkEvent, parkedSubjects, unpark } from "../feed/parked-events.ts";
import type { FeedEvent, Place } from "../feed/tail.ts";
import type { Logger } from "../log.ts";
import { Batch, type Prepared, prepareEvents, type RecordsOf } from "./batch.ts";
import { NotPublished, type Publisher } from "./publisher.ts";

/** Under this name are the cursor, the lease and what is parked: no service has it. */
export const KAFKA = "kafka";
const LEASE_MS = 3_000;
const KEEP_LEASE_MS = 1_000;
const READ_WAIT_MS = 1_000;
const EVENTS_PER_READ = 1_000;
/** A cursor that only passes what nobody is to read is written no more often than this. */
const PASSING_WRITE_MS = 1_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 2_000;
const RETRY_PARKED_MS = 60_000;
/** When the process stops: so long for what is on its way, before it is cut. */
const LAST_WORDS_MS = 1_000;

export interface RelayOptions {
  /** The service's database. */
  db: Db;
  feed: Pick<FeedLog, "read">;
  recordsOf: RecordsOf;
  openPublisher(): Promise<Publisher>;
  clock: Clock;
  log: Logger;
}

/** An answer of the feed, and the monotonic time at which it was asked for. */
interface FeedRead {
  sentAt: number;
  answer: FeedAnswer;
  prepared: Prepared[];
}

/** Runs from start() until it is disposed of. */
export class KafkaRelay implements AsyncDisposable {
  /** What it waits for, in a few words; undefined while all goes well, or another process publishes. */
  problem: string | undefined;
  /** Monotonic time at which it sent the last read that came back complete and is published; undefined unless this process publishes. */
  freshAt: number | undefined;
  /** Parked events, as this process has last counted them. */
  parked = 0;
  /** Events that this process has published. */
  published = 0;
  readonly #options: RelayOptions;
  readonly #holder = randomUUID();
  readonly #end = new AbortController();
  #running: Promise<void> | undefined;
  #failures = 0;
  #leaseUntil = 0;
  #movedAt = Number.NEGATIVE_INFINITY;
  #triedParkedAt = Number.NEGATIVE_INFINITY;

  constructor(options: RelayOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      try {
        if (await this.#keepLease()) await this.#lead();
        this.#tell(undefined);
      } catch (error) {
        if (!signal.aborted && !(error instanceof CursorMoved)) this.#tell(error);
      }
      this.freshAt = undefined;
      // Somebody else may get further.
      await releaseLease(this.#options.db, KAFKA, this.#holder).catch(() => {});
      await this.#pause();
    }
  }

  /** Publishes until something fails, or somebody else does it. */
  async #lead(): Promise<void> {
    const publisher = await this.#options.openPublisher();
    const reads = new AbortController();
    const cut = () => setTimeout(() => void publisher[Symbol.asyncDispose](), LAST_WORDS_MS).unref();
    this.#end.signal.addEventListener("abort", cut, { once: true });
    try {
      await this.#publishFeed(publisher, AbortSignal.any([this.#end.signal, reads.signal]));
    } finally {
      reads.abort();
      this.#end.signal.removeEventListener("abort", cut);
      await publisher[Symbol.asyncDispose]();
    }
  }

  async #publishFeed(publisher: Publisher, signal: AbortSignal): Promise<void> {
    const { db } = this.#options;
    let stored = await loadCursor(db, KAFKA);
    this.parked = await countParked(db, KAFKA);
    this.#triedParkedAt = Number.NEGATIVE_INFINITY;
    // The next events are read and prepared while these are published.
    let reading = this.#startReading(stored, signal);
    while (!signal.aborted && (await this.#keepLease())) {
      const { sentAt, answer, prepared } = await reading;
      reading = this.#startReading(answer.next, signal);
      await this.#retryParked(publisher, answer.next.epoch);
      stored = await this.#take(publisher, prepared, answer.next, stored);
      if (answer.complete) this.freshAt = sentAt;
      this.#failures = 0;
      this.#tell(undefined);
    }
  }

  /** Nobody may be waiting for it when it fails. */
  #startReading(from: Place | undefined, signal: AbortSignal): Promise<FeedRead> {
    const reading = this.#read(from, signal);
    reading.catch(() => {});
    return reading;
  }

  async #read(from: Place | undefined, signal: AbortSignal): Promise<FeedRead> {
    const { clock, recordsOf } = this.#options;
    const sentAt = clock.monotonic();
    const answer = await this.#readFeed(from, signal);
    return { sentAt, answer, prepared: prepareEvents(answer.events, answer.next.epoch, recordsOf) };
  }

  async #readFeed(from: Place | undefined, signal: AbortSignal): Promise<FeedAnswer> {
    const { feed, log } = this.#options;
    const query = { maxWaitMs: READ_WAIT_MS, limit: EVENTS_PER_READ, signal };
    try {
      return await feed.read({ ...query, from: from ?? "oldest" });
    } catch (error) {
      if (from === undefined || reasonOf(error) !== "CURSOR_LOST") throw error;
      log.warn("the feed has lost the cursor of Kafka: publishing it from its oldest event");
      return feed.read({ ...query, from: "oldest" });
    }
  }

  /** Publishes events, parks those that cannot be, and moves the cursor past them; returns where it is. */
  async #take(
    publisher: Publisher,
    events: Prepared[],
    next: Place,
    stored: Place | undefined,
  ): Promise<Place | undefined> {
    const { db, clock } = this.#options;
    if (stored?.epoch === next.epoch && stored.position === next.position) return stored;
    const batch = this.#batch(publisher, await this.#waitingSubjects(events));
    await failpoint("relay.before_publish");
    await batch.publish(events);
    await failpoint("relay.after_publish");
    const { parked, published } = batch;
    const isPassing = parked.length === 0 && published === 0 && stored?.epoch === next.epoch;
    if (isPassing && clock.monotonic() - this.#movedAt < PASSING_WRITE_MS) return stored;
    if (parked.length === 0) await moveCursor(db, KAFKA, stored, next);
    else await this.#park(parked, stored, next);
    await failpoint("relay.after_move");
    this.#movedAt = clock.monotonic();
    this.published += published;
    return next;
  }

  async #park(events: FeedEvent[], from: Place | undefined, to: Place): Promise<void> {
    await transaction(this.#options.db, async (tx) => {
      await moveCursor(tx, KAFKA, from, to);
      for (const event of events) await parkEvent(tx, KAFKA, event);
    });
    this.parked += events.length;
    this.#triedParkedAt = this.#options.clock.monotonic();
  }

  async #waitingSubjects(events: Prepared[]): Promise<Set<string>> {
    if (this.parked === 0 || events.length === 0) return new Set();
    return parkedSubjects(this.#options.db, KAFKA, [...new Set(events.map(({ event }) => event.subject))]);
  }

  /** Once in a while: each subject's events in order, until the first that is refused again. */
  async #retryParked(publisher: Publisher, epoch: string): Promise<void> {
    const { db, clock } = this.#options;
    if (this.parked === 0 || clock.monotonic() - this.#triedParkedAt < RETRY_PARKED_MS) return;
    this.#triedParkedAt = clock.monotonic();
    const refused = new Set<string>();
    for (let isDone = false; !isDone; ) {
      const oldest = (await oldestParked(db, KAFKA)).filter(({ subject }) => !refused.has(subject));
      for (const event of oldest) {
        if (!(await this.#keepLease())) return;
        const batch = this.#batch(publisher, new Set());
        await batch.publish(prepareEvents([event], epoch, this.#options.recordsOf));
        if (batch.parked.length > 0) refused.add(event.subject);
        else await unpark(db, KAFKA, event.number);
      }
      isDone = oldest.length === 0;
    }
    this.parked = await countParked(db, KAFKA);
  }

  #batch(publisher: Publisher, waiting: Set<string>): Batch {
    const { log } = this.#options;
    return new Batch({
      publisher,
      waiting,
      onRefused: ({ id, type, subject }, why) => {
        log.error({ event: id, type, subject, reason: why }, "an event cannot be published to Kafka and is parked");
      },
    });
  }

  async #keepLease(): Promise<boolean> {
    const now = this.#options.clock.monotonic();
    if (now < this.#leaseUntil - LEASE_MS + KEEP_LEASE_MS) return true;
    const isHeld = await holdLease(this.#options.db, KAFKA, this.#holder, LEASE_MS);
    this.#leaseUntil = isHeld ? now + LEASE_MS : 0;
    return isHeld;
  }

  /** Logs once in an outage, and once at its end. */
  #tell(error: unknown): void {
    const { log } = this.#options;
    const problem =
      error === undefined ? undefined : error instanceof NotPublished ? `Kafka (${error.message})` : "the database";
    if ((problem === undefined) === (this.problem === undefined)) return;
    this.problem = problem;
    if (problem === undefined) log.info("events are published to Kafka again");
    else log.error({ error: withoutData(error), waitsFor: problem }, "events are not published to Kafka");
  }

  /** Grows with the failures before; one that only waits for its turn asks again soon. */
  async #pause(): Promise<void> {
    this.#leaseUntil = 0;
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#failures++, MAX_PAUSE_MS);
    await delay(pauseMs * (0.5 + Math.random() / 2), undefined, { signal: this.#end.signal }).catch(() => {});
  }
}
