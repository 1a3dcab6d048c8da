/**
 * Events on their way to the brokers. What brokers refuse is found by halving, and parked, and so are later events about the same
 * subject; all others are published, in their order.
 */
import type { FeedEvent } from "../feed/tail.ts";
import { NotPublished, type Publisher } from "./publisher.ts";
import { type KafkaRecord, UnwritableEvent } from "./records.ts";

/** Brokers take 1 MiB at once unless told otherwise, and a batch may all go to one partition. */
const MAX_BYTES = 900_000;
/** What the client adds to a record, at most. */
const RECORD_OVERHEAD_BYTES = 200;

/** An event and what is to be published of it, which may be nothing; or why it cannot be written. */
export interface Prepared {
  event: FeedEvent;
  records: KafkaRecord[];
  bytes: number;
  unwritable?: string;
}

export interface BatchOptions {
  publisher: Publisher;
  /** Subjects with events that are parked; those that are parked now are added. */
  waiting: Set<string>;
  /** Told of an event that brokers refuse, or that cannot be written, and why. */
  onRefused(event: FeedEvent, why: string): void;
}

/** Throws UnwritableEvent. */
export type RecordsOf = (event: FeedEvent, epoch: string) => KafkaRecord[];

/** Takes most of the time of a relay that is behind: best done while brokers are waited for. */
export function prepareEvents(events: readonly FeedEvent[], epoch: string, recordsOf: RecordsOf): Prepared[] {
  return events.map((event) => {
    try {
      const records = recordsOf(event, epoch);
      const sizes = records.map(({ key, value }) => key.length + value.length + RECORD_OVERHEAD_BYTES);
      return { event, records, bytes: sizes.reduce((total, size) => total + size, 0) };
    } catch (error) {
      if (error instanceof UnwritableEvent) return { event, records: [], bytes: 0, unwritable: error.message };
      throw error;
    }
  });
}

export class Batch {
  /** To be parked, in their order. */
  readonly parked: FeedEvent[] = [];
  published = 0;
  readonly #options: BatchOptions;

  constructor(options: BatchOptions) {
    this.#options = options;
  }

  /** Resolves when each of them is published or in `parked`. Throws NotPublished if that cannot be said of all. */
  async publish(events: readonly Prepared[]): Promise<void> {
    let chunk: Prepared[] = [];
    let bytes = 0;
    for (const prepared of events) {
      const { event, unwritable } = prepared;
      if (unwritable !== undefined || bytes + prepared.bytes > MAX_BYTES) {
        await this.#send(chunk);
        chunk = [];
        bytes = 0;
      }
      if (unwritable !== undefined) this.#park(event, unwritable);
      else if (prepared.records.length > 0) {
        chunk.push(prepared);
        bytes += prepared.bytes;
      }
    }
    await this.#send(chunk);
  }

  async #send(chunk: readonly Prepared[]): Promise<void> {
    const { publisher, waiting } = this.#options;
    const going: Prepared[] = [];
    for (const prepared of chunk) {
      if (waiting.has(prepared.event.subject)) this.parked.push(prepared.event);
      else going.push(prepared);
    }
    if (going.length === 0) return;
    try {
      await publisher.publish(going.flatMap(({ records }) => records));
      this.published += going.length;
    } catch (error) {
      if (!(error instanceof NotPublished && error.isRefusal)) throw error;
      if (going.length === 1) return this.#park(going[0]!.event, error.message);
      const half = going.length >> 1;
      await this.#send(going.slice(0, half));
      await this.#send(going.slice(half));
    }
  }

  #park(event: FeedEvent, why: string): void {
    this.parked.push(event);
    if (!this.#options.waiting.has(event.subject)) this.#options.onRefused(event, why);
    this.#options.waiting.add(event.subject);
  }
}
