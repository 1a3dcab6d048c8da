/**
 * One connection of a pool: a postgres.js client with one connection, which runs one statement at a time and is thrown away
 * when anything breaks, when the server is silent, or when what runs is wanted no more.
 */
import type { Row, RowList, Sql } from "postgres";
import { type ConnectionOptions, connect } from "./connection.ts";
import { DatabaseUnavailable, isOutOfResources, isUnavailable, sqlStateOf } from "./errors.ts";

export interface ConnectionSettings extends Omit<ConnectionOptions, "max" | "onClose"> {
  /** The longest to wait for an answer, over the server's own limit: after it the connection counts as lost. */
  answerTimeoutMs: number;
}

type TypeMap = Record<string, (value: unknown) => unknown>;

/** Where Drizzle writes its own parsers. */
export interface TypeParsers {
  parsers: TypeMap;
  serializers: TypeMap;
}

/**
 * What still runs so long after its call has ended is cut. Most statements are done sooner, which costs less than the new
 * connection that a cut one needs.
 */
const GRACE_MS = 100;
/** Statements that the server keeps for a connection: some have a text of their own for each length of a list. */
const MAX_KEPT = 100;
/** The server does not know a statement that was prepared: behind a pooler it may be another connection each time. */
const UNKNOWN_STATEMENT = "26000";

/** The driver's own: why it has run a statement again, outside of a transaction. */
type Retried = { retried?: unknown };

/** One statement, and for how long it is wanted. */
export interface Statement {
  query: string;
  parameters?: unknown[];
  asArrays?: boolean;
  signal?: AbortSignal;
}

/** What a pool is told of a connection, each at most once. */
export interface ConnectionListener {
  /** The server has answered something. */
  onReached(): void;
  onBroken(): void;
}

/** One connection; once broken it takes no further query. */
export class PooledConnection {
  broken = false;
  /** Whether the server has ever answered on it. */
  reached = false;
  /** Whether it was we who ended it, and not the server or its silence. */
  cut = false;
  readonly #sql: Sql;
  readonly #answerTimeoutMs: number;
  readonly #listener: ConnectionListener;
  /** By their texts. A statement that is prepared goes there and back once instead of twice, and is not planned each time. */
  readonly #kept = new Set<string>();
  #keepsStatements = true;

  constructor(url: string, options: ConnectionSettings, types: TypeParsers, listener: ConnectionListener) {
    this.#listener = listener;
    this.#answerTimeoutMs = options.answerTimeoutMs;
    const { applicationName, settings } = options;
    this.#sql = connect(url, { applicationName, settings, arrays: false, onClose: () => this.#break() });
    Object.assign(this.#sql.options.parsers, types.parsers);
    Object.assign(this.#sql.options.serializers, types.serializers);
  }

  async run({ query, parameters, asArrays, signal }: Statement): Promise<RowList<Row[]>> {
    if (this.broken) throw new DatabaseUnavailable("the connection was lost");
    signal?.throwIfAborted();
    let late = setTimeout(() => this.#break(), this.#answerTimeoutMs);
    const hurry = () => {
      clearTimeout(late);
      late = setTimeout(() => this.#cut(), GRACE_MS);
    };
    signal?.addEventListener("abort", hurry, { once: true });
    try {
      const pending = this.#sql.unsafe(query, parameters as never[], { prepare: this.#isKept(query, parameters) });
      const rows = await (asArrays ? (pending.values() as unknown as Promise<RowList<Row[]>>) : pending);
      this.#learnFrom((pending as Retried).retried);
      this.#noteReached();
      return rows;
    } catch (error) {
      if (isUnavailable(error) && !isOutOfResources(error)) this.#break();
      else this.#noteReached();
      this.#learnFrom(error);
      signal?.throwIfAborted();
      throw error;
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", hurry);
    }
  }

  /** Those without parameters go there and back once anyway. */
  #isKept(query: string, parameters: unknown[] = []): boolean {
    if (!this.#keepsStatements || parameters.length === 0) return false;
    if (this.#kept.size < MAX_KEPT) this.#kept.add(query);
    return this.#kept.has(query);
  }

  /** Behind a pooler that keeps no statements, each try to have one would leave one there. */
  #learnFrom(error: unknown): void {
    if (sqlStateOf(error) === UNKNOWN_STATEMENT) this.#keepsStatements = false;
  }

  /** Closes at once, whatever runs. */
  async close(): Promise<void> {
    this.#cut();
    await this.#sql.end({ timeout: 0 });
  }

  #noteReached(): void {
    if (this.reached || this.broken) return;
    this.reached = true;
    this.#listener.onReached();
  }

  #cut(): void {
    this.cut = true;
    this.#break();
  }

  #break(): void {
    if (this.broken) return;
    this.broken = true;
    this.#listener.onBroken();
    this.#sql.end({ timeout: 0 }).catch(() => {});
  }
}
