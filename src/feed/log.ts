/**
 * A service's own feed: the outbox as one ordered log. Committed events get their positions from feed_stamp() (drizzle/platform),
 * and readers get them in that order: nothing that was committed is passed over, nothing that was rolled back is there.
 */
import { isNull, sql } from "drizzle-orm";
import { during, type Tx, transaction } from "../db/database.ts";
import { Code, fail } from "../errors.ts";
import { headOf, Looks, type LooksOptions, look } from "./looks.ts";
import { feedOutbox } from "./schema.ts";
import type { FeedEvent, Place } from "./tail.ts";

export type { FeedEvent, Place };

export interface FeedQuery {
  from: Place | "newest" | "oldest";
  /** Full names of the events to read; all when not given. */
  types?: ReadonlySet<string>;
  /** How long to wait for the first of them. */
  maxWaitMs: number;
  limit: number;
  signal: AbortSignal;
}

export interface FeedAnswer {
  events: FeedEvent[];
  /** Where to go on; also past events of other types. */
  next: Place;
  /** Everything that was committed up to 250 ms before the question is in `events` or before them. */
  complete: boolean;
}

export interface FeedStatus {
  head: Place;
  trimmed: bigint;
  /** Committed events without a position, counted up to 10,000. */
  pending: number;
}

/** Positions that one query goes through: it may find none of the wanted types among them. */
const SCAN_AT_ONCE = 5_000n;
/** After so many queries without a wanted event the reader is told how far it has come. */
const MAX_SCANS = 4;
const MAX_ANSWER_BYTES = 1024 * 1024;
const MAX_PENDING_COUNTED = 10_000;

/** The feed of one service in one process. begin() keeps it stamped, until it is disposed of. */
export class FeedLog implements AsyncDisposable {
  readonly #options: LooksOptions;
  readonly #looks: Looks;
  #isDraining = false;
  /** Ends with the last scan that was asked for. */
  #scanning: Promise<void> = Promise.resolve();

  constructor(options: LooksOptions) {
    this.#options = options;
    this.#looks = new Looks(options);
  }

  /** To be called once the database has the feed's tables: stamps what is committed from now on, and what others have left. */
  begin(): void {
    this.#looks.begin();
  }

  /** Readers are not kept waiting from now on: the process is about to stop. */
  drain(): void {
    this.#isDraining = true;
    this.#looks.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#looks[Symbol.asyncDispose]();
  }

  /**
   * Events after a place. Waits for the first one, at most `maxWaitMs`; what it answers comes from a look at the database that
   * began after the question. Throws ABORTED / CURSOR_LOST for a place that is not in this feed (any more).
   */
  async read(query: FeedQuery): Promise<FeedAnswer> {
    const looks = this.#looks;
    const { from, maxWaitMs, signal } = query;
    const came = looks.now();
    using wait = new Wait(maxWaitMs, signal, looks);
    let place = typeof from === "string" ? await this.#startingPlace(from, came, signal) : from;
    if (from === "newest") return { events: [], next: place, complete: this.#isComplete(place, came) };
    for (let scans = 0; ; ) {
      signal.throwIfAborted();
      await this.#refuseIfLost(place, came, signal);
      const found = await this.#eventsAfter(place, query);
      const isBehind = found.next.position < looks.tail.head;
      if (found.events.length > 0) {
        if (isBehind || looks.isSince(came)) return { ...found, complete: this.#isComplete(found.next, came) };
        await looks.after(came, signal);
        continue;
      }
      place = found.next;
      if (isBehind && ++scans < MAX_SCANS) continue;
      if (isBehind) return { events: [], next: place, complete: false };
      if (!wait.isOver && !this.#isDraining) await wait.forMore();
      else if (!looks.isSince(came)) await looks.after(came, signal);
      else return { events: [], next: place, complete: this.#isComplete(place, came) };
    }
  }

  /**
   * Runs `work` on one snapshot of the database, and says where the feed was then: who follows from `start` misses nothing that
   * the snapshot has not, and who has come to `settled` has passed every event that was committed before the snapshot was taken.
   */
  async snapshot<T>(
    work: (tx: Tx) => Promise<T>,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<{ result: T; start: Place; settled: bigint }> {
    const looks = this.#looks;
    // On a connection of the service: those of the looks are needed inside.
    return transaction(
      this.#options.db,
      async (tx) => {
        await tx.execute(sql`set transaction isolation level repeatable read, read only`);
        const start = headOf(await look(tx));
        // Once the snapshot is open, and outside of it: what was committed before has its position now.
        while (await looks.stamp());
        const settled = (await look(looks.db)).head;
        return { result: await work(tx), start, settled };
      },
      { signal },
    );
  }

  async status(): Promise<FeedStatus> {
    const { db } = this.#looks;
    const found = await look(db);
    const waiting = db
      .select({ id: feedOutbox.id })
      .from(feedOutbox)
      .where(isNull(feedOutbox.position))
      .limit(MAX_PENDING_COUNTED);
    return { head: headOf(found), trimmed: found.trimmed, pending: (await waiting).length };
  }

  async #startingPlace(from: "newest" | "oldest", came: number, signal: AbortSignal): Promise<Place> {
    await this.#looks.after(came, signal);
    const last = this.#looks.last!;
    return from === "newest" ? headOf(last) : { epoch: last.epoch, position: last.trimmed };
  }

  /** A place that looks wrong may come from a process that has looked later than this one. */
  async #refuseIfLost(place: Place, came: number, signal: AbortSignal): Promise<void> {
    if (this.#isLost(place)) await this.#looks.after(came, signal);
    if (this.#isLost(place)) throw cursorLost();
  }

  #isLost({ epoch, position }: Place): boolean {
    const { last } = this.#looks;
    return last === undefined || epoch !== last.epoch || position > last.head || position < last.trimmed;
  }

  /** Of the wanted types; `next` is where the search has come to. */
  async #eventsAfter(
    { epoch, position: after }: Place,
    { types, limit, signal }: Pick<FeedQuery, "types" | "limit" | "signal">,
  ): Promise<{ events: FeedEvent[]; next: Place }> {
    const { head } = this.#looks.tail;
    const held = this.#looks.tail.since(after);
    const until = held || after + SCAN_AT_ONCE > head ? head : after + SCAN_AT_ONCE;
    const found =
      held?.filter(({ type }) => types?.has(type) ?? true) ?? (await this.#scan(after, until, types, limit, signal));
    const { chosen, isCut } = atMost(found, limit);
    return { events: chosen, next: { epoch, position: isCut ? chosen.at(-1)!.position : until } };
  }

  /** From the database; one scan at a time, so that there is always a connection to look with. */
  async #scan(
    after: bigint,
    until: bigint,
    types: ReadonlySet<string> | undefined,
    limit: number,
    signal: AbortSignal,
  ) {
    const before = this.#scanning;
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#scanning = done;
    try {
      await before;
      const db = during(this.#looks.db, signal);
      const events = await this.#looks.events(after, until, { db, types, limit: limit + 1 });
      // After the events: what was trimmed while they were read is missed by nobody.
      if (after < (await look(db)).trimmed) throw cursorLost();
      return events;
    } finally {
      resolve();
    }
  }

  /** Judged by the last look: it began after the question, nothing waits for long, and `place` is all that it saw. */
  #isComplete({ epoch, position }: Place, came: number): boolean {
    const last = this.#looks.last!;
    return this.#looks.isSince(came) && !last.late && last.epoch === epoch && position >= last.head;
  }
}

/** How long a reader waits, by real time: it bounds a call and decides nothing. */
class Wait implements Disposable {
  isOver: boolean;
  readonly #signal: AbortSignal;
  readonly #looks: Looks;
  readonly #timer: NodeJS.Timeout | undefined;
  #resume: (() => void) | undefined;

  constructor(ms: number, signal: AbortSignal, looks: Looks) {
    this.#signal = signal;
    this.#looks = looks;
    this.isOver = ms <= 0;
    if (this.isOver) return;
    this.#timer = setTimeout(this.#end, ms);
    signal.addEventListener("abort", this.#end, { once: true });
  }

  readonly #end = (): void => {
    this.isOver = true;
    this.#resume?.();
  };

  /** Resolves when the head has moved, or the wait is over. */
  async forMore(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const stopListening = this.#looks.onMoved(resolve);
    this.#resume = resolve;
    await promise;
    stopListening();
    this.#signal.throwIfAborted();
    this.#looks.refuseIfClosed();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener("abort", this.#end);
  }
}

function cursorLost() {
  return fail(Code.Aborted, "CURSOR_LOST", "the feed does not have this cursor any more");
}

/** The first of them, bounded in number and in bytes; always one, if there is one. */
function atMost(events: FeedEvent[], limit: number): { chosen: FeedEvent[]; isCut: boolean } {
  let bytes = 0;
  const fitting = events.findIndex(({ payload }, index) => {
    bytes += payload.length;
    return index >= limit || (index > 0 && bytes > MAX_ANSWER_BYTES);
  });
  return fitting < 0 ? { chosen: events, isCut: false } : { chosen: events.slice(0, fitting), isCut: true };
}
