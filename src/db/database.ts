/**
 * A service's way to its database: a pool for Drizzle, and transactions that are run again when PostgreSQL asks for it.
 * Every connection carries time limits, so that nothing waits for ever.
 */
import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import type { Sql } from "postgres";
import { aheadMs, systemClock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import { CONNECT_TIMEOUT_SECONDS } from "./connection.ts";
import { DatabaseUnavailable, isRetryable, withoutData } from "./errors.ts";
import { ConnectionPool, type PoolClient, type PoolCounts, type PoolScope } from "./pool.ts";

/** Drizzle on the pool. Tables are named in queries, so it knows no schema. */
export type Db = PostgresJsDatabase;
/** An open transaction; a Db is not one, and what must be part of a transaction takes this. */
export type Tx = Parameters<Parameters<Db["transaction"]>[0]>[0];

export interface DatabaseOptions {
  url: string;
  /** Connections at most; ping() may take one more. */
  poolSize: number;
  /** The service and instance, as pg_stat_activity shows it. */
  applicationName: string;
  /** The longest a statement may run; default 5,000. */
  statementTimeoutMs?: number;
  /** The longest a statement may wait for a lock; default 2,000. */
  lockTimeoutMs?: number;
  /** The longest a transaction may sit between two statements; default 10,000. */
  idleInTransactionTimeoutMs?: number;
  /** The longest a query may wait for a free connection; default 5,000. */
  poolTimeoutMs?: number;
}

export interface Database extends AsyncDisposable {
  readonly db: Db;
  /** How busy the pool is now; the connection of ping() is not counted. */
  poolCounts(): PoolCounts;
  /** How often the server had no disk space or memory for what was asked. */
  outOfResources(): number;
  /**
   * Resolves if the database answers a query within 2 s, to how far its clock is ahead of this machine's, in milliseconds; else throws
   * DatabaseUnavailable.
   */
  ping(): Promise<number>;
}

export interface TransactionOptions {
  /** Ends the transaction, as during() says, and the waiting between two tries. */
  signal?: AbortSignal;
  /** What is set for this transaction alone (SET LOCAL), by name. */
  settings?: Readonly<Record<string, string>>;
  /** A number in [0, 1) for the jitter. */
  random?: () => number;
}

/** What every connection of a service has, in milliseconds: nothing waits for ever. */
export const connectionLimits = {
  statement_timeout: 5_000,
  lock_timeout: 2_000,
  idle_in_transaction_session_timeout: 10_000,
  // so that a statement ends soon after its connection, wherever that was cut
  client_connection_check_interval: 250,
};

const PING_TIMEOUT_MS = 2_000;
const CLOSE_TIMEOUT_MS = 5_000;
/** For the way there and back and for connecting, on top of what the server allows a statement. */
const ANSWER_MARGIN_MS = CONNECT_TIMEOUT_SECONDS * 1_000;
const MAX_RETRIES = 3;
const RETRY_BASE_MS = 20;

/** Opens the pools; the first query connects. Disposing waits up to 5 s for running queries, then cuts them. */
export function openDatabase(options: DatabaseOptions): Database {
  const { statementTimeoutMs, lockTimeoutMs, idleInTransactionTimeoutMs } = options;
  const limits = connectionLimits;
  const settings = {
    ...limits,
    statement_timeout: statementTimeoutMs ?? limits.statement_timeout,
    lock_timeout: lockTimeoutMs ?? limits.lock_timeout,
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs ?? limits.idle_in_transaction_session_timeout,
  };
  const { url, applicationName } = options;
  const waitTimeoutMs = options.poolTimeoutMs ?? 5_000;
  const answerTimeoutMs = settings.statement_timeout + ANSWER_MARGIN_MS;
  const size = options.poolSize;
  const pool = new ConnectionPool(url, { applicationName, settings, size, waitTimeoutMs, answerTimeoutMs });
  // A connection of its own, so that a pool which is busy is not taken for a database that is away.
  const patience = { waitTimeoutMs: PING_TIMEOUT_MS, answerTimeoutMs: PING_TIMEOUT_MS };
  const probe = new ConnectionPool(url, { applicationName, settings, size: 1, ...patience });
  let asking: Promise<number> | undefined;
  let closed: Promise<void> | undefined;
  return {
    // the pool has what Drizzle uses of a postgres.js client
    db: drizzle(pool as unknown as Sql),
    poolCounts: () => pool.counts,
    outOfResources: () => pool.outOfResources,
    ping() {
      // One question for all who ask: whoever can reach a probe must not be able to make it slow.
      asking ??= ping(probe).finally(() => {
        asking = undefined;
      });
      return asking;
    },
    [Symbol.asyncDispose]() {
      closed ??= Promise.all([pool.end(CLOSE_TIMEOUT_MS), probe.end(0)]).then(() => {});
      return closed;
    },
  };
}

async function ping(probe: ConnectionPool): Promise<number> {
  try {
    // The machine's own clock, which is what is in question, whichever clock services were given.
    const askedAt = systemClock.now();
    const [row] = await probe.unsafe("select extract(epoch from clock_timestamp())::float8 * 1000 as ms");
    return aheadMs((row as { ms: number }).ms, { askedAt, answeredAt: systemClock.now() });
  } catch (error) {
    throw new DatabaseUnavailable("the database does not answer", { cause: withoutData(error) });
  }
}

/**
 * The database for the time of one call. When `signal` aborts, its reason is thrown (under Drizzle's wrapping): no further
 * statement is sent, one that still runs 100 ms later is cut, and a transaction is rolled back unless COMMIT was sent.
 */
export function during(db: Db, signal: AbortSignal): Db {
  return scoped(db, { signal });
}

const commitWatchers = new WeakMap<ConnectionPool, (tx: Tx) => void>();

/** Calls `onCommit` after each commit of transaction() on this database. One watcher at a time. */
export function watchCommits(db: Db, onCommit: (tx: Tx) => void): Disposable {
  const pool = clientOf(db).pool;
  commitWatchers.set(pool, onCommit);
  return { [Symbol.dispose]: () => void commitWatchers.delete(pool) };
}

function clientOf(db: Db): PoolClient {
  return (db as unknown as { $client: PoolClient }).$client;
}

function scoped(db: Db, scope: PoolScope): Db {
  return drizzle(clientOf(db).scoped(scope) as unknown as Sql);
}

/**
 * Runs `work` in a transaction and returns its result after the commit. A serialization failure or a deadlock runs the
 * whole function again, at most three times with growing pauses, then fails with ABORTED / CONFLICT; so `work` must
 * do nothing that a rollback does not undo. Other errors come out as they are: see toConnectError().
 */
export async function transaction<T>(
  db: Db,
  work: (tx: Tx) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  const { signal, settings, random = randomFraction } = options;
  const own = scoped(db, { ...(signal && { signal }), ...(settings && { settings }) });
  for (let retries = 0; ; retries++) {
    let committing: Tx | undefined;
    try {
      const result = await own.transaction((tx) => {
        committing = tx;
        return work(tx);
      });
      commitWatchers.get(clientOf(db).pool)?.(committing!);
      return result;
    } catch (error) {
      signal?.throwIfAborted();
      if (!isRetryable(error)) throw error;
      if (retries === MAX_RETRIES) {
        throw fail(Code.Aborted, "CONFLICT", "another change was in the way, try again", { cause: withoutData(error) });
      }
      await delay(RETRY_BASE_MS * 2 ** retries * (0.5 + random()), undefined, { signal });
    }
  }
}

function randomFraction(): number {
  return randomInt(2 ** 32) / 2 ** 32;
}
