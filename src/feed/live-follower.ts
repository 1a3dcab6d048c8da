/**
 * A follower in memory: every process that watches reads for itself, and nothing is stored. What it promises is one number,
 * `freshAt`: everything that was committed some 250 ms before that moment has been handed over, or was there when it began. Without a
 * snapshot it begins with the newest event, also after a lost cursor: that is for those who only want to be woken.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import {
  type Cursor,
  type Event,
  type FeedInternalService,
  type ReadRequestSchema,
  Start,
} from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import type { Clock } from "../clock.ts";
import { reasonOf } from "../errors.ts";
import type { SimpleLog } from "../simple-log.ts";

/** What a service watches in memory: nothing is stored, every process watches for itself. */
export interface Watcher {
  /** Name of the watched service: one of the service's peers, or the service itself. */
  source: string;
  /** The events to hand over. */
  types: DescMessage[];
  /** Without events once reading has begun, or begun anew, at the newest: whatever is looked at from then on misses nothing. */
  onEvents(events: Event[]): void;
}

/** A feed as those who follow it see it. */
export type FeedReader = Pick<Client<typeof FeedInternalService>, "read">;

export interface LiveFollowerOptions extends Watcher {
  client: FeedReader;
  /**
   * Takes a snapshot and says where to go on, and which position to pass before the feed has told all that the snapshot may lack.
   * Called again after CURSOR_LOST: what is held stays held, the snapshot is added. Without it, reading begins with the newest.
   */
  begin?(signal: AbortSignal): Promise<Beginning>;
  clock: Clock;
  log: SimpleLog;
}

export interface Beginning {
  start: Cursor;
  settledPosition: bigint;
}

export interface LiveFollower extends AsyncDisposable {
  readonly source: string;
  /**
   * Monotonic time at which it SENT the last Read that came back `complete`, with everything passed up to the snapshot's settled
   * position. Nothing else counts. Undefined before.
   */
  readonly freshAt: number | undefined;
  /** Resolves when freshAt is set for the first time. */
  readonly caughtUp: Promise<void>;
  /** Which life of the feed is read: another one after a restore. Undefined before the beginning, and when the cursor was lost. */
  readonly epoch: string | undefined;
}

type From = MessageInitShape<typeof ReadRequestSchema>["from"];

const MAX_WAIT_MS = 1_000;
/** A peer behind a black hole answers nothing; the call's end makes its connection ask for a sign of life. */
const READ_TIMEOUT_MS = 3_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** Some three seconds. */
const FAILURES_OF_A_START = 6;

/** Starts reading. Disposing aborts the Read under way and waits for it. */
export function startLiveFollower(options: LiveFollowerOptions): LiveFollower {
  return new MemoryFollower(options);
}

class MemoryFollower implements LiveFollower {
  readonly source: string;
  freshAt: number | undefined;
  readonly caughtUp: Promise<void>;
  readonly #options: LiveFollowerOptions;
  readonly #types: string[];
  readonly #stopping = new AbortController();
  readonly #caughtUp = Promise.withResolvers<void>();
  readonly #reading: Promise<void>;
  /** Undefined before the beginning, and when the cursor was lost. */
  #from: From | undefined;
  #settledPosition = 0n;
  #failures = 0;
  /** Whether somebody who reads the log knows of the outage. */
  #isTold = false;

  constructor(options: LiveFollowerOptions) {
    this.#options = options;
    this.source = options.source;
    this.#types = options.types.map(({ typeName }) => typeName);
    this.caughtUp = this.#caughtUp.promise;
    this.#reading = this.#readOn();
  }

  get epoch(): string | undefined {
    return this.#from?.case === "cursor" ? this.#from.value.epoch : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#reading;
  }

  async #readOn(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#readOnce(signal);
        this.#noteSuccess();
      } catch (error) {
        if (signal.aborted) return;
        this.#noteFailure(error);
        await delay(this.#pauseMs(), undefined, { signal }).catch(() => {});
      }
    }
  }

  async #readOnce(signal: AbortSignal): Promise<void> {
    const { client, clock, source, onEvents } = this.#options;
    const from = this.#from ?? (await this.#begin(signal));
    this.#from = from;
    const sentAt = clock.monotonic();
    // Until it has caught up, somebody waits for that.
    const maxWait = durationFromMs(this.freshAt === undefined ? 0 : MAX_WAIT_MS);
    const answer = await client.read(
      { service: source, from, types: this.#types, maxWait },
      { signal, timeoutMs: READ_TIMEOUT_MS },
    );
    if (!answer.next) throw new Error(`the feed of ${source} does not say where to go on`);
    // What was missed, if anything, is for the listener to look for, now that nothing can be missed any more.
    if (from?.case === "start" || answer.events.length > 0) onEvents(answer.events);
    this.#from = { case: "cursor", value: answer.next };
    if (answer.complete && answer.next.position >= this.#settledPosition) this.#noteFresh(sentAt);
    // A peer that is about to stop keeps nobody waiting: without a pause it would be asked again and again.
    if (answer.events.length === 0 && clock.monotonic() - sentAt < FIRST_PAUSE_MS) await delayQuietly(signal);
  }

  async #begin(signal: AbortSignal): Promise<From> {
    const beginning = await this.#options.begin?.(signal);
    this.#settledPosition = beginning?.settledPosition ?? 0n;
    if (!beginning) return { case: "start", value: Start.NEWEST };
    return { case: "cursor", value: beginning.start };
  }

  #noteFresh(sentAt: number): void {
    this.freshAt = sentAt;
    this.#caughtUp.resolve();
  }

  #noteSuccess(): void {
    if (this.#isTold) this.#options.log.info(`follows ${this.source} again`);
    this.#isTold = false;
    this.#failures = 0;
  }

  #noteFailure(error: unknown): void {
    const isLost = reasonOf(error) === "CURSOR_LOST";
    if (isLost) this.#from = undefined;
    // Once per outage: a second line would only say that it lasts. Services that start together wait for each other in any case.
    if (this.#failures === (this.freshAt === undefined ? FAILURES_OF_A_START : 0)) {
      this.#isTold = true;
      this.#options.log.warn(
        { error },
        isLost ? `begins anew with ${this.source}` : `waits for the feed of ${this.source}`,
      );
    }
    this.#failures += 1;
  }

  /** Growing, and not the same for all processes that lost the same peer. */
  #pauseMs(): number {
    const longest = Math.min(FIRST_PAUSE_MS * 2 ** (this.#failures - 1), LONGEST_PAUSE_MS);
    return longest * (0.5 + Math.random() / 2);
  }
}

function delayQuietly(signal: AbortSignal): Promise<void> {
  return delay(FIRST_PAUSE_MS, undefined, { signal }).catch(() => {});
}
