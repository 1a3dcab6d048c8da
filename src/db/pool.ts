/**
 * The connections Drizzle works on. Each is a postgres.js client with one connection that is used by one query or one
 * transaction at a time and thrown away when anything breaks. postgres.js's own pool is not used because in 3.4.9 a
 * connection lost inside a transaction ends the process (its issue 1208), or lets the rest of that transaction run in
 * another one (1216), and a write pending at the loss makes the next connect hang (1215).
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Row, RowList } from "postgres";
import { literal } from "./connection.ts";
import { DatabaseUnavailable, isOutOfResources } from "./errors.ts";
import { type ConnectionSettings, PooledConnection, type Statement, type TypeParsers } from "./pool-connection.ts";

interface PoolOptions extends ConnectionSettings {
  /** Connections at most. */
  size: number;
  /** The longest a query waits for a free connection. */
  waitTimeoutMs: number;
}

/** What Drizzle awaits: the rows as objects, or as arrays after `.values()`. */
interface PendingRows extends Promise<RowList<Row[]>> {
  values(): Promise<RowList<Row[]>>;
}

/** The part of a postgres.js client that Drizzle uses inside a transaction. */
interface TransactionClient {
  unsafe(query: string, parameters?: unknown[]): PendingRows;
  savepoint<T>(work: (client: TransactionClient) => Promise<T>): Promise<T>;
}

/** What holds for everything that a client does. */
export interface PoolScope {
  /**
   * When it aborts, its reason is thrown instead of waiting for a connection, sending another statement or committing;
   * a statement that runs is cut soon after, and a COMMIT is waited for.
   */
  signal?: AbortSignal;
  /** What each transaction sets for itself alone, by name; it goes with BEGIN, so it costs no way there and back. */
  settings?: Readonly<Record<string, string>>;
}

/** What Drizzle works on. */
export interface PoolClient {
  /** The pool itself, also behind a client with a scope. */
  readonly pool: ConnectionPool;
  /** Drizzle writes its own parsers in here; every connection is opened with them. */
  readonly options: TypeParsers;
  /** The same with this scope, which stands beside or instead of what its own says. */
  scoped(scope: PoolScope): PoolClient;
  unsafe(query: string, parameters?: unknown[]): PendingRows;
  begin<T>(work: (client: TransactionClient) => Promise<T>): Promise<T>;
}

/** How busy a pool is. */
export interface PoolCounts {
  /** Connections that run something. */
  used: number;
  /** Connections that are open and free. */
  idle: number;
  /** Queries and transactions that wait for a connection. */
  waiting: number;
}

interface Waiter {
  resolve(connection: PooledConnection): void;
  reject(reason: unknown): void;
  timer: NodeJS.Timeout;
}

/**
 * After a failed try to connect nobody tries again for so long: whoever asks waits for the next try, and shares its fate. Each try takes
 * a new process of a server that has enough to do with getting up again.
 */
const UNREACHED_PAUSE_MS = 100;
/** A try that takes so long may be lost in a network that is there again: then there is another one beside it. */
const TRY_MS = 1_000;

/** The part of a postgres.js client that Drizzle uses: `drizzle(pool as unknown as Sql)`. */
export class ConnectionPool implements PoolClient {
  readonly options: TypeParsers = { parsers: {}, serializers: {} };
  readonly pool = this;
  /** How often the server had no disk space or memory for what was asked. */
  outOfResources = 0;
  readonly #url: string;
  readonly #settings: PoolOptions;
  readonly #all = new Set<PooledConnection>();
  readonly #idle: PooledConnection[] = [];
  readonly #waiters: Waiter[] = [];
  /** False from a failed try to connect to the next one that succeeds. */
  #isReached = true;
  /** While it runs, no connection is opened. */
  #pause: NodeJS.Timeout | undefined;
  #ended: Promise<void> | undefined;
  #whenAllIdle: (() => void) | undefined;

  constructor(url: string, settings: PoolOptions) {
    this.#url = url;
    this.#settings = settings;
  }

  get counts(): PoolCounts {
    const idle = this.#idle.length;
    return { used: this.#all.size - idle, idle, waiting: this.#waiters.length };
  }

  /** Runs one statement on a free connection. */
  unsafe(query: string, parameters?: unknown[]): PendingRows {
    return this.#unsafe({ query, parameters });
  }

  /** Runs `work` between BEGIN and COMMIT; anything thrown rolls back. A lost connection fails, it never moves. */
  begin<T>(work: (client: TransactionClient) => Promise<T>): Promise<T> {
    return this.#begin(work);
  }

  scoped(scope: PoolScope): PoolClient {
    return {
      pool: this,
      options: this.options,
      scoped: (inner) => this.scoped({ ...scope, ...inner }),
      unsafe: (query, parameters) => this.#unsafe({ query, parameters, signal: scope.signal }),
      begin: (work) => this.#begin(work, scope),
    };
  }

  #unsafe(statement: Omit<Statement, "asArrays">): PendingRows {
    return pendingRows((asArrays) =>
      this.#lease((connection) => connection.run({ ...statement, asArrays }), statement.signal),
    );
  }

  #begin<T>(work: (client: TransactionClient) => Promise<T>, scope: PoolScope = {}): Promise<T> {
    return this.#lease((connection) => inTransaction(connection, work, scope), scope.signal);
  }

  /** Refuses new work, waits for running work up to the timeout, then cuts it. May be called twice. */
  end(timeoutMs: number): Promise<void> {
    this.#ended ??= this.#end(timeoutMs);
    return this.#ended;
  }

  async #lease<T>(work: (connection: PooledConnection) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const connection = await this.#acquire(signal);
    try {
      return await work(connection);
    } catch (error) {
      if (isOutOfResources(error)) this.outOfResources++;
      throw error;
    } finally {
      this.#release(connection);
    }
  }

  async #acquire(signal?: AbortSignal): Promise<PooledConnection> {
    if (this.#ended) throw new DatabaseUnavailable("the database was closed");
    const idle = this.#idle.pop();
    if (idle) return idle;
    if (this.#mayOpen()) return this.#open();
    const { waitTimeoutMs } = this.#settings;
    const { promise, resolve, reject } = Promise.withResolvers<PooledConnection>();
    const tooLate = () =>
      this.#giveUp(waiter, new DatabaseUnavailable(`no free connection within ${waitTimeoutMs} ms`));
    const waiter: Waiter = { resolve, reject, timer: setTimeout(tooLate, waitTimeoutMs) };
    this.#waiters.push(waiter);
    const leave = () => this.#giveUp(waiter, signal!.reason);
    signal?.addEventListener("abort", leave, { once: true });
    return promise.finally(() => signal?.removeEventListener("abort", leave));
  }

  /** Does nothing to one that was given a connection just now. */
  #giveUp(waiter: Waiter, reason: unknown): void {
    const index = this.#waiters.indexOf(waiter);
    if (index < 0) return;
    this.#waiters.splice(index, 1);
    clearTimeout(waiter.timer);
    waiter.reject(reason);
  }

  #mayOpen(): boolean {
    return this.#all.size < this.#settings.size && this.#pause === undefined;
  }

  #open(): PooledConnection {
    const connection = new PooledConnection(this.#url, this.#settings, this.options, {
      onReached: () => this.#noteReached(),
      onBroken: () => this.#drop(connection),
    });
    this.#all.add(connection);
    if (!this.#isReached) this.#pauseFor(TRY_MS);
    return connection;
  }

  #noteReached(): void {
    if (this.#isReached) return;
    this.#isReached = true;
    this.#endPause();
  }

  #noteUnreached(): void {
    this.#isReached = false;
    this.#pauseFor(UNREACHED_PAUSE_MS);
    if (this.#all.size > 0) return;
    this.#refuseWaiters(() => new DatabaseUnavailable("the database was not reached"));
  }

  #pauseFor(ms: number): void {
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#endPause(), ms);
  }

  #endPause(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#serveWaiters();
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
    if (connection.reached) this.#serveWaiters();
    else if (connection.cut) this.#endPause();
    else this.#noteUnreached();
  }

  #serveWaiters(): void {
    while (this.#waiters.length > 0 && this.#mayOpen()) this.#hand(this.#open());
  }

  #refuseWaiters(reason: () => Error): void {
    for (const waiter of this.#waiters.splice(0)) {
      clearTimeout(waiter.timer);
      waiter.reject(reason());
    }
  }

  async #end(timeoutMs: number): Promise<void> {
    this.#refuseWaiters(() => new DatabaseUnavailable("the database was closed"));
    clearTimeout(this.#pause);
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

async function inTransaction<T>(
  connection: PooledConnection,
  work: (client: TransactionClient) => Promise<T>,
  { signal, settings = {} }: PoolScope,
) {
  const scope = new TransactionScope(connection, signal);
  try {
    const local = Object.entries(settings).map(([name, value]) => `; set local ${name} = ${literal(value)}`);
    await connection.run({ query: `begin${local.join("")}`, signal });
    const result = await work(scope);
    scope.finish();
    signal?.throwIfAborted();
    // without the signal: from here on it is decided at the server, and we want to know how
    const { command } = await connection.run({ query: "commit" });
    // the server answers the COMMIT of a failed transaction with ROLLBACK, not with an error
    if (command !== "COMMIT") throw scope.failure ?? new Error("the transaction was rolled back");
    return result;
  } catch (error) {
    scope.finish();
    // closing the connection rolls back as well
    if (!connection.broken) await connection.run({ query: "rollback" }).catch(() => connection.close());
    throw error;
  }
}

/** The client inside one transaction: refuses statements after its end, which would run outside of it. */
class TransactionScope implements TransactionClient {
  /** The first failed statement. */
  failure: unknown;
  readonly #connection: PooledConnection;
  readonly #signal: AbortSignal | undefined;
  #finished = false;
  #savepoints = 0;

  constructor(connection: PooledConnection, signal: AbortSignal | undefined) {
    this.#connection = connection;
    this.#signal = signal;
  }

  unsafe(query: string, parameters?: unknown[]): PendingRows {
    return pendingRows(async (asArrays) => {
      if (this.#finished) throw new Error("a statement was sent after its transaction had ended");
      try {
        return await this.#connection.run({ query, parameters, asArrays, signal: this.#signal });
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
