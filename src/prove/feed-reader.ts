/**
 * Reads the whole feed of `make prove/feed` while its processes die: a cursor and nothing else, each Read from another process,
 * and holds what it gets to what the contract says.
 */
import { setTimeout as delay } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { durationFromMs, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { type Cursor, type Event, Start } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { reasonOf } from "../errors.ts";
import { commonMs } from "./fate.ts";
import { FeedClients } from "./feed-client.ts";
import { SOURCE } from "./feed-tables.ts";

const READ_WAIT_MS = 1_000;
const READ_TIMEOUT_MS = 2_500;
const PAUSE_MS = 50;
const PORT = /:\d+$/;

/** A Read that said that it was everything: what was asked when, and where it came to. */
export interface CompleteRead {
  sentAt: number;
  position: bigint;
}

export class FeedReader implements AsyncDisposable {
  readonly clients = new FeedClients("each time");
  /** Ids of the events in the order in which they came, and when each came, by its payload. */
  readonly ids: string[] = [];
  readonly seenAt = new Map<string, number>();
  readonly completeReads: CompleteRead[] = [];
  position = 0n;
  /** Events that came at another position than the next one, or whose version was not the subject's next one. */
  outOfPlace = 0;
  reordered = 0;
  lostCursors = 0;
  /** How many Reads failed, by what they were told. */
  readonly failures = new Map<string, number>();
  readonly #versions = new Map<string, bigint>();
  readonly #end = new AbortController();
  #cursor: Cursor | undefined;
  #running: Promise<void> | undefined;

  begin(): void {
    this.#running = this.#read();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#running;
  }

  async #read(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      try {
        await this.#readOnce(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (reasonOf(error) === "CURSOR_LOST") this.lostCursors++;
        const why = ConnectError.from(error).rawMessage.replace(PORT, "");
        this.failures.set(why, (this.failures.get(why) ?? 0) + 1);
        await delay(PAUSE_MS, undefined, { signal }).catch(() => {});
      }
    }
  }

  async #readOnce(signal: AbortSignal): Promise<void> {
    const sentAt = commonMs();
    const from = this.#cursor
      ? { case: "cursor" as const, value: this.#cursor }
      : { case: "start" as const, value: Start.OLDEST };
    const request = { service: SOURCE, from, maxWait: durationFromMs(READ_WAIT_MS), limit: 1_000 };
    const { events, next, complete } = await this.clients.read(request, { signal, timeoutMs: READ_TIMEOUT_MS });
    const seenAt = commonMs();
    for (const event of events) this.#take(event, seenAt);
    if (next!.position !== this.position) this.outOfPlace++;
    this.#cursor = next!;
    if (complete) this.completeReads.push({ sentAt, position: next!.position });
  }

  #take({ id, position, subject, version, payload }: Event, seenAt: number): void {
    if (position !== this.position + 1n) this.outOfPlace++;
    this.position = position;
    if (version !== (this.#versions.get(subject) ?? 0n) + 1n) this.reordered++;
    this.#versions.set(subject, version);
    this.ids.push(id);
    this.seenAt.set(fromBinary(StringValueSchema, payload).value, seenAt);
  }
}
