/**
 * What one open stream is still to be told: a bounded queue between the process's hub (live-inbox.ts), which never waits, and a
 * client that reads as fast as it can. A client that is too slow is told to list its inbox again.
 */
import type { Place } from "../../feed/log.ts";
import type { InboxChange } from "./inbox-changes.ts";

/** What a client is told, and where in the feed that is. Without a change: that nothing has happened up to there. */
export interface InboxMessage {
  place: Place;
  change?: InboxChange | "resync";
}

const MAX_QUEUED = 1_000;

export class InboxStream {
  #queue: InboxMessage[] = [];
  readonly #ending = new AbortController();
  #resume: (() => void) | undefined;

  /** Aborts when the stream ends, with what next() throws then. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** How many messages are queued. */
  get size(): number {
    return this.#queue.length;
  }

  /** Queues it; beyond the bound, one resync takes the place of everything. */
  push(message: InboxMessage): void {
    if (this.signal.aborted) return;
    if (this.#queue.length < MAX_QUEUED) this.#queue.push(message);
    else this.#queue = [{ place: message.place, change: "resync" }];
    this.#resume?.();
  }

  /** Changes were missed: whatever is queued is of no use. */
  restart(place: Place): void {
    if (this.signal.aborted) return;
    this.#queue = [{ place, change: "resync" }];
    this.#resume?.();
  }

  /** From now on next() throws this; what is queued is told to nobody. */
  end(reason: unknown): void {
    this.#ending.abort(reason);
    this.#queue = [];
    this.#resume?.();
  }

  /** The next message; undefined when there was none for that long. */
  async next(maxWaitMs: number): Promise<InboxMessage | undefined> {
    if (!this.signal.aborted && this.#queue.length === 0) await this.#somethingOr(maxWaitMs);
    this.signal.throwIfAborted();
    return this.#queue.shift();
  }

  async #somethingOr(maxWaitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#resume = resolve;
    const timer = setTimeout(resolve, maxWaitMs);
    await promise;
    clearTimeout(timer);
  }
}
