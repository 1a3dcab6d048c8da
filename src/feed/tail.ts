/**
 * The newest events of a feed, in memory: whoever waits for an event is a little behind the head, and a thousand who wait shall
 * cost one query.
 */

/** One published fact, as the feed keeps it. */
export interface FeedEvent {
  position: bigint;
  /** "<service>/<number>": unique and constant. */
  id: string;
  /** The full name of its message. */
  type: string;
  subject: string;
  version: bigint;
  createdAt: Date;
  /** The message in protobuf's binary form. */
  payload: Uint8Array;
}

/** A place in a feed: everything up to it has been read. */
export interface Place {
  epoch: string;
  position: bigint;
}

const MAX_EVENTS = 2_000;
const MAX_BYTES = 4 * 1024 * 1024;

/** Of one epoch; a new one begins empty. */
export class Tail {
  readonly epoch: string;
  /** Everything after this is held. */
  #after: bigint;
  #head: bigint;
  #events: FeedEvent[] = [];
  #bytes = 0;

  constructor({ epoch, position }: Place) {
    this.epoch = epoch;
    this.#after = position;
    this.#head = position;
  }

  get head(): bigint {
    return this.#head;
  }

  /** Adds what comes next, and forgets the oldest if it is too much. */
  append(events: FeedEvent[]): void {
    if (events.length === 0) return;
    this.#events.push(...events);
    this.#head = events.at(-1)!.position;
    for (const { payload } of events) this.#bytes += payload.length;
    let count = Math.max(0, this.#events.length - MAX_EVENTS);
    for (const event of this.#events.slice(0, count)) this.#bytes -= event.payload.length;
    while (this.#bytes > MAX_BYTES) this.#bytes -= this.#events[count++]!.payload.length;
    if (count === 0) return;
    this.#after = this.#events[count - 1]!.position;
    this.#events.splice(0, count);
  }

  /** Everything from `position` to the head, or undefined when some of it is not held. */
  since(position: bigint): FeedEvent[] | undefined {
    if (position < this.#after) return undefined;
    // Positions have no gaps, so the place of an event follows from its position.
    return this.#events.slice(Number(position - this.#after));
  }
}
