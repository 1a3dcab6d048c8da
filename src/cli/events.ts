/**
 * `concierge events tail`: prints what services publish, as it happens, until it is stopped. It outlasts servers that stop and
 * come again. It is the operator's tool: personal data in events is printed as it is.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type DescMessage, fromBinary, toJson } from "@bufbuild/protobuf";
import { durationFromMs, timestampDate } from "@bufbuild/protobuf/wkt";
import { type Event, type ReadRequest, type ReadResponse, Start } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { ExitCode, reasonOf, StartupError } from "../errors.ts";
import { connectFeeds, type Feed, type FeedsSettings, type Publisher, problemOf, publishersOf } from "./feeds.ts";
import type { Host } from "./host.ts";

export interface TailSettings extends FeedsSettings {
  /** Full names of events, or their names without the package; all when not given. */
  types?: string[];
  /** "newest", "oldest", or a position of the one service. */
  from: string;
}

/** Where to begin, before there is a cursor. */
type Beginning = "newest" | "oldest" | bigint;

const MAX_WAIT_MS = 1_000;
const READ_TIMEOUT_MS = 5_000;
const PAUSE_MS = 500;
/** A server that is about to stop keeps nobody waiting: without a pause it would be asked again and again. */
const EMPTY_PAUSE_MS = 50;

/** Ends when the host stops; throws a StartupError for a wrong option, and for a refusal that will last. */
export async function tailEvents(host: Host, settings: TailSettings): Promise<void> {
  const publishers = withTypes(publishersOf(settings.service), settings.types);
  const beginning = parseBeginning(settings.from, publishers);
  using opened = new DisposableStack();
  const feeds = await connectFeeds(publishers, settings, opened);
  const failed = new AbortController();
  const signal = AbortSignal.any([host.stop, failed.signal]);
  const tails = feeds.map((feed) => {
    return new Tail(host, feed, settings.types !== undefined, signal).follow(beginning).catch((error: unknown) => {
      failed.abort();
      throw error;
    });
  });
  const ended = await Promise.allSettled(tails);
  for (const tail of ended) if (tail.status === "rejected") throw tail.reason;
}

/** The same services with the events of these names only, and without those that have none of them. */
function withTypes(publishers: Publisher[], types: readonly string[] | undefined): Publisher[] {
  if (!types) return publishers;
  const known = publishers.flatMap(({ events }) => events);
  const unknown = types.find((type) => !known.some((event) => isNamed(event, type)));
  if (unknown !== undefined) {
    const list = known.map(({ typeName }) => `  ${typeName}`).join("\n");
    throw new StartupError(`there is no event ${unknown}; there are\n${list}`, ExitCode.usage);
  }
  const chosen = publishers.map(({ service, events }) => {
    return { service, events: events.filter((event) => types.some((type) => isNamed(event, type))) };
  });
  return chosen.filter(({ events }) => events.length > 0);
}

function isNamed({ typeName, name }: DescMessage, wanted: string): boolean {
  return wanted === typeName || wanted === name;
}

function parseBeginning(text: string, publishers: readonly Publisher[]): Beginning {
  if (text === "newest" || text === "oldest") return text;
  if (!/^\d{1,18}$/.test(text)) {
    throw new StartupError("--from must be newest, oldest or a position", ExitCode.usage);
  }
  if (publishers.length === 1) return BigInt(text);
  const list = publishers.map(({ service }) => service).join(", ");
  throw new StartupError(`--from ${text}: say whose position it is with --service, one of ${list}`, ExitCode.usage);
}

/** One feed, printed. */
class Tail {
  readonly #host: Host;
  readonly #feed: Feed;
  readonly #types: string[];
  readonly #signal: AbortSignal;
  readonly #descs: ReadonlyMap<string, DescMessage>;
  #isAway = false;

  constructor(host: Host, feed: Feed, isFiltered: boolean, signal: AbortSignal) {
    this.#host = host;
    this.#feed = feed;
    // Without a filter, events that this program does not know are printed, too.
    this.#types = isFiltered ? feed.events.map(({ typeName }) => typeName) : [];
    this.#signal = signal;
    this.#descs = new Map(feed.events.map((desc) => [desc.typeName, desc]));
  }

  /** Reads until the signal aborts. */
  async follow(beginning: Beginning): Promise<void> {
    let from: ReadRequest["from"] | undefined;
    while (!this.#signal.aborted) {
      try {
        from ??= await this.#startAt(beginning);
        const { events, next } = await this.#read(from);
        for (const event of events) this.#host.print(`${JSON.stringify(this.#describe(event))}\n`);
        from = { case: "cursor", value: next! };
        this.#noteAnswer();
        if (events.length === 0) await this.#pause(EMPTY_PAUSE_MS);
      } catch (error) {
        if (this.#signal.aborted) return;
        if (reasonOf(error) === "CURSOR_LOST") {
          this.#say("the feed does not have this place any more: going on with the oldest event that it has");
          from = { case: "start", value: Start.OLDEST };
        } else {
          await this.#noteFailure(error);
        }
        await this.#pause(PAUSE_MS);
      }
    }
  }

  /** A position is one of the feed's present life. */
  async #startAt(beginning: Beginning): Promise<ReadRequest["from"]> {
    if (beginning === "oldest") return { case: "start", value: Start.OLDEST };
    const newest = { case: "start", value: Start.NEWEST } as const;
    if (beginning === "newest") return newest;
    const { next } = await this.#read(newest);
    return { case: "cursor", value: { ...next!, position: beginning } };
  }

  #read(from: ReadRequest["from"]): Promise<ReadResponse> {
    const { client, service } = this.#feed;
    const request = { service, from, types: this.#types, maxWait: durationFromMs(MAX_WAIT_MS) };
    return client.read(request, { signal: this.#signal, timeoutMs: READ_TIMEOUT_MS });
  }

  #describe({ position, id, type, subject, version, createdAt, payload }: Event): Record<string, unknown> {
    return {
      service: this.#feed.service,
      position: Number(position),
      id,
      type,
      subject,
      version: Number(version),
      createdAt: createdAt && timestampDate(createdAt).toISOString(),
      ...decode(this.#descs.get(type), payload),
    };
  }

  #noteAnswer(): void {
    if (this.#isAway) this.#say("answers again");
    this.#isAway = false;
  }

  /** Once per outage; throws what will not pass. */
  async #noteFailure(error: unknown): Promise<void> {
    const { problem, isPassing } = await problemOf(this.#feed.url, error);
    if (!isPassing) throw new StartupError(`${this.#feed.service}: ${problem.message}`, problem.exitCode);
    if (!this.#isAway) this.#say(`waiting: ${problem.message}`);
    this.#isAway = true;
  }

  #say(text: string): void {
    this.#host.warn(`concierge: ${this.#feed.service}: ${text}\n`);
  }

  #pause(ms: number): Promise<void> {
    return delay(ms, undefined, { signal: this.#signal }).catch(() => {});
  }
}

/** The message as JSON; the bytes in base64 of what this program does not know or cannot read. */
function decode(desc: DescMessage | undefined, payload: Uint8Array): { event: unknown } | { payload: string } {
  try {
    if (desc) return { event: toJson(desc, fromBinary(desc, payload)) };
  } catch {
    // Printed as it came.
  }
  return { payload: Buffer.from(payload).toString("base64") };
}
