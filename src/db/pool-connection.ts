/**
 * One connection of a pool: a postgres.js client with one connection, which runs one statement at a time and is thrown away
 * when anything breaks, when the server is silent, or when what runs is wanted no more.
 */
import type { Row, RowList, Sql } from "postgres";
import { type ConnectionOptions, connect } from "./connection.ts";
import { DatabaseUnavailable, isUnavailable } from "./errors.ts";

export interface ConnectionSettings extends Omit<ConnectionOptions, "max" | "onClose"> {
  /** The longest to wait for an answer, over the server's own limit: after it the connection counts as lost. */
  answerTimeoutMs: number;
}

export interface RunOptions {
  prepare?: boolean;
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

/** One statement, and for how long it is wanted. */
export interface Statement {
  query: string;
  parameters?: unknown[];
  options?: RunOptions;
  asArrays?: boolean;
  signal?: AbortSignal;
}

/** One connection; once broken it takes no further query. */
export class PooledConnection {
  broken = false;
  readonly #sql: Sql;
  readonly #answerTimeoutMs: number;
  readonly #onBroken: () => void;

  constructor(url: string, options: ConnectionSettings, types: TypeParsers, onBroken: () => void) {
    this.#onBroken = onBroken;
    this.#answerTimeoutMs = options.answerTimeoutMs;
    const { applicationName, settings } = options;
    this.#sql = connect(url, { applicationName, settings, arrays: false, onClose: () => this.#break() });
    Object.assign(this.#sql.options.parsers, types.parsers);
    Object.assign(this.#sql.options.serializers, types.serializers);
  }

  async run({ query, parameters, options, asArrays, signal }: Statement): Promise<RowList<Row[]>> {
    if (this.broken) throw new DatabaseUnavailable("the connection was lost");
    signal?.throwIfAborted();
    let late = setTimeout(() => this.#break(), this.#answerTimeoutMs);
    const hurry = () => {
      clearTimeout(late);
      late = setTimeout(() => this.#break(), GRACE_MS);
    };
    signal?.addEventListener("abort", hurry, { once: true });
    try {
      const pending = this.#sql.unsafe(query, parameters as never[], options);
      return await (asArrays ? (pending.values() as unknown as Promise<RowList<Row[]>>) : pending);
    } catch (error) {
      if (isUnavailable(error)) this.#break();
      signal?.throwIfAborted();
      throw error;
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", hurry);
    }
  }

  /** Closes at once, whatever runs. */
  async close(): Promise<void> {
    this.#break();
    await this.#sql.end({ timeout: 0 });
  }

  #break(): void {
    if (this.broken) return;
    this.broken = true;
    this.#onBroken();
    this.#sql.end({ timeout: 0 }).catch(() => {});
  }
}
