/**
 * How a process keeps up with its own feed: it stamps what was committed and looks where the feed has come to, after its own
 * commits, when another process says that it has stamped, and twice a second besides, so that nobody is needed for what a killed
 * process has left. One look at a time serves all readers.
 */
import { and, asc, gt, inArray, lte, sql } from "drizzle-orm";
import { type Db, openDatabase, watchCommits } from "../db/database.ts";
import { listenTo } from "../db/notifications.ts";
import { Code, fail } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Logger } from "../log.ts";
import { hasEmitted } from "./emit.ts";
import { feedOutbox } from "./schema.ts";
import { type FeedEvent, type Place, Tail } from "./tail.ts";

export interface LooksOptions {
  service: string;
  /** PostgreSQL URL of the run-time role. */
  url: string;
  /** The service's database, whose commits are watched. */
  db: Db;
  /** The same by the job role, if there is one: its commits are watched, too. */
  jobDb?: Db | undefined;
  log: Logger;
}

/** What feed_look() answers, in one snapshot. */
export interface Look {
  epoch: string;
  head: bigint;
  /** Events up to this position are not kept any more. */
  trimmed: bigint;
  /** Committed events wait for their positions. */
  pending: boolean;
  /** One of them has waited for longer than 250 ms. */
  late: boolean;
}

const POLL_MS = 500;
/** Whoever stamps keeps the others from it: 20 ms for so many. */
const STAMP_AT_ONCE = 1_000;
/** One that has missed more than this begins anew: those who want the rest are served from the database. */
const MAX_FOLLOWED = 2_000n;
/** For looks, and for readers who are far behind: apart from the service's own pool, whose calls must not make the feed late. */
const POOL_SIZE = 2;

export class Looks implements AsyncDisposable {
  readonly db: Db;
  readonly #options: LooksOptions;
  readonly #resources = new AsyncDisposableStack();
  #tail: Tail | undefined;
  #last: Look | undefined;
  /** Looks are numbered from 1: the last one that was begun, and the last one that succeeded. */
  #begun = 0;
  #done = 0;
  #mustStamp = true;
  #mustLook = false;
  #isLooking = false;
  #looking: Promise<void> | undefined;
  #isClosed = false;
  #problem: unknown;
  /** Of those who wait for a look, and of those who wait for events. */
  #lookEnded = Promise.withResolvers<void>();
  readonly #waiting = new Set<() => void>();

  constructor(options: LooksOptions) {
    this.#options = options;
    const { url, service } = options;
    this.db = this.#resources.use(openDatabase({ url, poolSize: POOL_SIZE, applicationName: nameOf(service) })).db;
  }

  /** To be called once the database has the feed's tables. */
  begin(): void {
    const { url, db, jobDb, service } = this.#options;
    const onNotify = () => this.#look();
    for (const writer of jobDb ? [db, jobDb] : [db]) {
      this.#resources.use(watchCommits(writer, (tx) => hasEmitted(tx) && this.#stampSoon()));
    }
    this.#resources.use(listenTo({ url, applicationName: nameOf(service), channel: "concierge_feed", onNotify }));
    const timer = setInterval(onNotify, POLL_MS);
    this.#resources.defer(() => clearInterval(timer));
    this.#look();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#lookEnded.resolve();
    this.wake();
    await this.#looking;
    await this.#resources.disposeAsync();
  }

  /** What the last look has found, and the events around the head. There is none before the first after(). */
  get last(): Look | undefined {
    return this.#last;
  }

  get tail(): Tail {
    return this.#tail!;
  }

  /** A moment that after() and isSince() can be asked about. */
  now(): number {
    return this.#begun;
  }

  /** Whether the last look began after this moment. */
  isSince(moment: number): boolean {
    return this.#done > moment;
  }

  /** Resolves when a look has ended that began after this moment. Throws what keeps us from looking. */
  async after(moment: number, signal: AbortSignal): Promise<void> {
    for (let tries = 0; !this.isSince(moment); tries++) {
      signal.throwIfAborted();
      this.refuseIfClosed();
      if (tries > 0 && this.#begun > moment && this.#problem !== undefined) throw this.#problem;
      const ended = this.#lookEnded.promise;
      this.#look();
      await ended;
    }
  }

  /** Calls back whenever the head has moved, and with wake(). Returns what stops that. */
  onMoved(listener: () => void): () => void {
    this.#waiting.add(listener);
    return () => void this.#waiting.delete(listener);
  }

  /** Ends all waiting for events. */
  wake(): void {
    for (const listener of this.#waiting) listener();
  }

  /** Gives positions to what is committed, at most 1,000 at once; says whether there may be more. */
  async stamp(): Promise<boolean> {
    await failpoint("feed.before_stamp");
    const [row] = await this.db.execute<{ stamped: number }>(
      sql`select feed_stamp(${STAMP_AT_ONCE}::integer) as stamped`,
    );
    await failpoint("feed.after_stamp");
    return row!.stamped === STAMP_AT_ONCE;
  }

  /** Events between two positions, the second one included; of some types only, and so many at most, if it is said. */
  async events(
    after: bigint,
    until: bigint,
    { db = this.db, types, limit }: { db?: Db; types?: ReadonlySet<string> | undefined; limit?: number } = {},
  ): Promise<FeedEvent[]> {
    const isWanted = types && inArray(feedOutbox.type, [...types]);
    const query = db
      .select()
      .from(feedOutbox)
      .where(and(gt(feedOutbox.position, after), lte(feedOutbox.position, until), isWanted))
      .orderBy(asc(feedOutbox.position));
    const rows = await (limit === undefined ? query : query.limit(limit));
    const { service } = this.#options;
    return rows.map(({ id, position, type, subject, version, createdAt, payload }) => {
      return { position: position!, id: `${service}/${id}`, type, subject, version, createdAt, payload };
    });
  }

  #stampSoon(): void {
    this.#mustStamp = true;
    this.#look();
  }

  /** Looks now, or once more when a look is under way. */
  #look(): void {
    this.#mustLook = true;
    if (this.#isLooking || this.#isClosed) return;
    this.#looking = this.#lookWhileWanted();
  }

  async #lookWhileWanted(): Promise<void> {
    const { log } = this.#options;
    this.#isLooking = true;
    while (this.#mustLook && !this.#isClosed) {
      this.#mustLook = false;
      try {
        await this.#lookOnce();
        if (this.#problem !== undefined) log.info("the feed goes on");
        this.#problem = undefined;
      } catch (error) {
        if (this.#problem === undefined && !this.#isClosed) log.warn({ error }, "the feed stands still");
        this.#problem = error;
        this.#mustStamp = true;
      }
      this.#lookEnded.resolve();
      this.#lookEnded = Promise.withResolvers();
    }
    this.#isLooking = false;
  }

  async #lookOnce(): Promise<void> {
    const number = ++this.#begun;
    // Where nobody can stamp, what has a position can be read all the same.
    const stamping = this.#mustStamp ? this.stamp() : Promise.resolve(false);
    this.#mustStamp = false;
    await stamping.catch(() => {});
    const found = await look(this.db);
    const head = this.#tail?.head;
    await this.#follow(found);
    this.#last = found;
    this.#done = number;
    if (head !== this.tail.head) this.wake();
    await stamping;
    // Whoever has committed these stamps them as well, unless it was killed in between.
    if (found.pending) this.#stampSoon();
  }

  /** Brings the tail to the head. */
  async #follow({ epoch, head }: Look): Promise<void> {
    const tail = this.#tail;
    if (tail?.epoch === epoch && tail.head <= head && head - tail.head <= MAX_FOLLOWED) {
      const events = tail.head < head ? await this.events(tail.head, head) : [];
      // Some may have been trimmed meanwhile, after standing still for as long as they are kept.
      if (events.length === Number(head - tail.head)) return tail.append(events);
    }
    this.#tail = new Tail({ epoch, position: head });
  }

  /** Throws UNAVAILABLE once it is disposed of. */
  refuseIfClosed(): void {
    if (!this.#isClosed) return;
    throw fail(Code.Unavailable, "UNAVAILABLE", "the server is stopping", { retryAfterMs: 1_000 });
  }
}

function nameOf(service: string): string {
  return `concierge ${service} feed`;
}

/** Where the feed is, as this database or transaction sees it. */
export async function look(db: Pick<Db, "execute">): Promise<Look> {
  // Through a plain query: bigints come as text.
  type Row = Omit<Look, "head" | "trimmed"> & { head: string; trimmed: string };
  const [row] = await db.execute<Row>(sql`select * from feed_look()`);
  return { ...row!, head: BigInt(row!.head), trimmed: BigInt(row!.trimmed) };
}

/** Where a look has found the head. */
export function headOf({ epoch, head }: Look): Place {
  return { epoch, position: head };
}
