/**
 * The connections Drizzle works on. Each is a postgres.js client with one connection that is used by one query or one
 * transaction at a time and thrown away when anything breaks. postgres.js's own pool is not used because in 3.4.9 a
 * connection lost inside a transaction ends the process (its issue 1208), or lets the rest of that transaction run in
 * another one (1216), and a write pending at the loss makes the next connect hang (1215).
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Row, RowList, Sql } from "postgres";
import { type ConnectionOptions, connect } from "./connection.ts";
import { DatabaseUnavailable, isUnavailable } from "./errors.ts";

interface PoolOptions extends Omit<ConnectionOptions, "max" | "onClose"> {
  /** Connections at most. */
  size: number;
  /** The longest a query waits for a free connection. */
  waitTimeoutMs: number;
  /** The longest to wait for an answer, over the server's own limit: after it the connection counts as lost. */
  answerTimeoutMs: number;
}

/** What Drizzle awaits: the rows as objects, or as arrays after `.values()`. */
interface PendingRows extends Promise<RowList<Row[]>> {
  values(): Promise<RowList<Row[]>>;
}

/** The part of a postgres.js client that Drizzle uses inside a transaction. */
interface TransactionClient {
  unsafe(query: string, parameters?: unknown[], options?: RunOptions): PendingRows;
  savepoint<T>(work: (client: TransactionClient) => Promise<T>): Promise<T>;
}

interface RunOptions {
  prepare?: boolean;
}

type TypeMap = Record<string, (value: unknown) => unknown>;

interface Waiter {
  resolve(connection: PooledConnection): void;
  reject(error: Error): void;
  timer: NodeJS.Timeout;
}

/** The part of a postgres.js client that Drizzle uses: `drizzle(pool as unknown as Sql)`. */
export class ConnectionPool {
  /** Drizzle writes its own parsers in here; every connection is opened with them. */
  readonly options: { parsers: TypeMap; serializers: TypeMap } = { parsers: {}, serializers: {} };
  readonly #url: string;
  readonly #settings: PoolOptions;
  readonly #all = new Set<PooledConnection>();
  readonly #idle: PooledConnection[] = [];
  readonly #waiters: Waiter[] = [];
  #ended: Promise<void> | undefined;
  #whenAllIdle: (() => void) | undefined;

  constructor(url: string, settings: PoolOptions) {
    this.#url = url;
    this.#settings = settings;
  }

  /** Runs one statement on a free connection. */
  unsafe(query: string, parameters?: unknown[], options?: RunOptions): PendingRows {
    return pendingRows((asArrays) => this.#lease((connection) => connection.run(query, parameters, options, asArrays)));
  }

  /** Runs `work` between BEGIN and COMMIT; anything thrown rolls back. A lost connection fails, it never moves. */
  begin<T>(work: (client: TransactionClient) => Promise<T>): Promise<T> {
    return this.#lease((connection) => inTransaction(connection, work));
  }

  /** Refuses new work, waits for running work up to the timeout, then cuts it. May be called twice. */
  end(timeoutMs: number): Promise<void> {
    this.#ended ??= this.#end(timeoutMs);
    return this.#ended;
  }

  async #lease<T>(work: (connection: PooledConnection) => Promise<T>): Promise<T> {
    const connection = await this.#acquire();
    try {
      return await work(connection);
    } finally {
      this.#release(connection);
    }
  }

  async #acquire(): Promise<PooledConnection> {
    if (this.#ended) throw new DatabaseUnavailable("the database was closed");
    const idle = this.#idle.pop();
    if (idle) return idle;
    if (this.#all.size < this.#settings.size) return this.#open();
    const { promise, resolve, reject } = Promise.withResolvers<PooledConnection>();
    const waiter: Waiter = {
      resolve,
      reject,
      timer: setTimeout(() => this.#giveUp(waiter), this.#settings.waitTimeoutMs),
    };
    this.#waiters.push(waiter);
    return promise;
  }

  #giveUp(waiter: Waiter): void {
    this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
    waiter.reject(new DatabaseUnavailable(`no free connection within ${this.#settings.waitTimeoutMs} ms`));
  }

  #open(): PooledConnection {
    const connection = new PooledConnection(this.#url, this.#settings, this.options, () => this.#drop(connection));
    this.#all.add(connection);
    return connection;
  }

  #release(connection: PooledConnection): void {
    if (!connection.broken) this.#hand(connection);
    if (this.#idle.length === this.#all.size) this.#whenAllIdle?.();
  }

  #hand(connection: PooledConnection): void {
    const waiter = this.#waiters.shift();
    if (!waiter) {
      this.#idle.push(connection);
      return;
    }
    clearTimeout(waiter.timer);
    waiter.resolve(connection);
  }

  /** A broken connection's place is free for a new one. */
  #drop(connection: PooledConnection): void {
    this.#all.delete(connection);
    const index = this.#idle.indexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
    if (this.#waiters.length > 0) this.#hand(this.#open());
  }

  async #end(timeoutMs: number): Promise<void> {
    for (const waiter of this.#waiters.splice(0)) {
      clearTimeout(waiter.timer);
      waiter.reject(new DatabaseUnavailable("the database was closed"));
    }
    if (this.#idle.length < this.#all.size) {
      const limit = new AbortController();
      const allIdle = new Promise<void>((resolve) => {
        this.#whenAllIdle = resolve;
      });
      await Promise.race([allIdle, delay(timeoutMs, undefined, { signal: limit.signal }).catch(() => {})]);
      limit.abort();
    }
    await Promise.all([...this.#all].map((connection) => connection.close()));
  }
}

/** One connection; once broken it takes no further query. */
class PooledConnection {
  broken = false;
  readonly #sql: Sql;
  readonly #answerTimeoutMs: number;
  readonly #onBroken: () => void;

  constructor(url: string, options: PoolOptions, types: ConnectionPool["options"], onBroken: () => void) {
    this.#onBroken = onBroken;
    this.#answerTimeoutMs = options.answerTimeoutMs;
    const { applicationName, settings } = options;
    this.#sql = connect(url, { applicationName, settings, onClose: () => this.#break() });
    Object.assign(this.#sql.options.parsers, types.parsers);
    Object.assign(this.#sql.options.serializers, types.serializers);
  }

  async run(query: string, parameters?: unknown[], options?: RunOptions, asArrays = false): Promise<RowList<Row[]>> {
    if (this.broken) throw new DatabaseUnavailable("the connection was lost");
    const silence = setTimeout(() => this.#break(), this.#answerTimeoutMs);
    try {
      const pending = this.#sql.unsafe(query, parameters as never[], options);
      return await (asArrays ? (pending.values() as unknown as Promise<RowList<Row[]>>) : pending);
    } catch (error) {
      if (isUnavailable(error)) this.#break();
      throw error;
    } finally {
      clearTimeout(silence);
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

async function inTransaction<T>(connection: PooledConnection, work: (client: TransactionClient) => Promise<T>) {
  const scope = new TransactionScope(connection);
  try {
    await connection.run("begin");
    const result = await work(scope);
    scope.finish();
    const { command } = await connection.run("commit");
    // the server answers the COMMIT of a failed transaction with ROLLBACK, not with an error
    if (command !== "COMMIT") throw scope.failure ?? new Error("the transaction was rolled back");
    return result;
  } catch (error) {
    scope.finish();
    // closing the connection rolls back as well
    if (!connection.broken) await connection.run("rollback").catch(() => connection.close());
    throw error;
  }
}

/** The client inside one transaction: refuses statements after its end, which would run outside of it. */
class TransactionScope implements TransactionClient {
  /** The first failed statement. */
  failure: unknown;
  readonly #connection: PooledConnection;
  #finished = false;
  #savepoints = 0;

  constructor(connection: PooledConnection) {
    this.#connection = connection;
  }

  unsafe(query: string, parameters?: unknown[], options?: RunOptions): PendingRows {
    return pendingRows(async (asArrays) => {
      if (this.#finished) throw new Error("a statement was sent after its transaction had ended");
      try {
        return await this.#connection.run(query, parameters, options, asArrays);
      } catch (error) {
        this.failure ??= error;
        throw error;
      }
    });
  }

  async savepoint<T>(work: (client: TransactionClient) => Promise<T>): Promise<T> {
    const name = `s${this.#savepoints++}`;
    await this.unsafe(`savepoint ${name}`);
    try {
      const result = await work(this);
      await this.unsafe(`release savepoint ${name}`);
      return result;
    } catch (error) {
      if (!this.#connection.broken) await this.unsafe(`rollback to savepoint ${name}`);
      throw error;
    }
  }

  finish(): void {
    this.#finished = true;
  }
}

/** Starts one microtask later, so that `.values()` on the result can still say in which form the rows are wanted. */
function pendingRows(run: (asArrays: boolean) => Promise<RowList<Row[]>>): PendingRows {
  let asArrays = false;
  const rows = Promise.resolve().then(() => run(asArrays));
  return Object.assign(rows, {
    values() {
      asArrays = true;
      return rows;
    },
  });
}
