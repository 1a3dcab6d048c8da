/**
 * A service's way to its database: a pool for Drizzle, a small one for plain SQL, and transactions that are run again
 * when PostgreSQL asks for it. Every connection carries time limits, so that nothing waits for ever.
 */
import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import type { Sql } from "postgres";
import { Code, fail } from "../errors.ts";
import { CONNECT_TIMEOUT_SECONDS, type ConnectionOptions, connect } from "./connection.ts";
import { DatabaseUnavailable, isRetryable, withoutData } from "./errors.ts";
import { ConnectionPool } from "./pool.ts";

/** Drizzle on the pool. Tables are named in queries, so it knows no schema. */
export type Db = PostgresJsDatabase;
/** An open transaction; a Db is not one, and what must be part of a transaction takes this. */
export type Tx = Parameters<Parameters<Db["transaction"]>[0]>[0];

export interface DatabaseOptions {
  url: string;
  /** Connections at most for Drizzle; plain SQL may take two more. */
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
  /**
   * Plain postgres.js for single statements: Drizzle changes the parsers of its client (dates become text), so this is
   * another one. Read it anew for each use: it is replaced when one of its connections breaks.
   */
  readonly sql: Sql;
  /** Resolves if the database answers a query within 2 s; else throws DatabaseUnavailable. */
  ping(): Promise<void>;
}

export interface TransactionOptions {
  isolationLevel?: "read committed" | "repeatable read" | "serializable";
  accessMode?: "read only" | "read write";
  /** Stops the waiting between two tries. */
  signal?: AbortSignal;
  /** A number in [0, 1) for the jitter. */
  random?: () => number;
}

const PLAIN_SQL_CONNECTIONS = 2;
const PING_TIMEOUT_MS = 2_000;
const CLOSE_TIMEOUT_MS = 5_000;
/** For the way there and back and for connecting, on top of what the server allows a statement. */
const ANSWER_MARGIN_MS = CONNECT_TIMEOUT_SECONDS * 1_000;
const MAX_RETRIES = 3;
const RETRY_BASE_MS = 20;

/** Opens the pools; the first query connects. Disposing waits up to 5 s for running queries, then cuts them. */
export function openDatabase(options: DatabaseOptions): Database {
  const settings = {
    statement_timeout: options.statementTimeoutMs ?? 5_000,
    lock_timeout: options.lockTimeoutMs ?? 2_000,
    idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs ?? 10_000,
  };
  const { url, applicationName } = options;
  const waitTimeoutMs = options.poolTimeoutMs ?? 5_000;
  const answerTimeoutMs = settings.statement_timeout + ANSWER_MARGIN_MS;
  const size = options.poolSize;
  const pool = new ConnectionPool(url, { applicationName, settings, size, waitTimeoutMs, answerTimeoutMs });
  const plain = openPlainClient(url, { applicationName, settings, max: PLAIN_SQL_CONNECTIONS });
  let closed: Promise<void> | undefined;
  return {
    // the pool has what Drizzle uses of a postgres.js client
    db: drizzle(pool as unknown as Sql),
    get sql() {
      return plain.current;
    },
    ping: () => ping(plain),
    [Symbol.asyncDispose]() {
      closed ??= Promise.all([pool.end(CLOSE_TIMEOUT_MS), plain.end()]).then(() => {});
      return closed;
    },
  };
}

interface PlainClient {
  readonly current: Sql;
  /** Replaces the client unless somebody did already; what runs on the lost one gets the time given. */
  replace(lost: Sql, timeoutMs: number): void;
  end(): Promise<void>;
}

/** postgres.js may hang when it reconnects (see pool.ts): after a loss the whole client is replaced. */
function openPlainClient(url: string, options: ConnectionOptions): PlainClient {
  let ended = false;
  const open = (): Sql => {
    const client = connect(url, { ...options, onClose: () => replace(client, CLOSE_TIMEOUT_MS) });
    return client;
  };
  let current = open();
  const replace = (lost: Sql, timeoutMs: number): void => {
    if (ended || current !== lost) return;
    current = open();
    lost.end({ timeout: timeoutMs / 1_000 }).catch(() => {});
  };
  return {
    get current() {
      return current;
    },
    replace,
    async end() {
      ended = true;
      await current.end({ timeout: CLOSE_TIMEOUT_MS / 1_000 });
    },
  };
}

async function ping(plain: PlainClient): Promise<void> {
  const limit = new AbortController();
  const client = plain.current;
  const query = client`select 1`.execute();
  // a database that went silent does not answer: the late failure of the query is nobody's
  query.catch(() => {});
  try {
    await Promise.race([query, expire(limit.signal)]);
  } catch (error) {
    plain.replace(client, 0);
    throw new DatabaseUnavailable("the database does not answer", { cause: withoutData(error) });
  } finally {
    limit.abort();
  }
}

async function expire(signal: AbortSignal): Promise<never> {
  // the abort only frees the timer: the race is decided by then
  await delay(PING_TIMEOUT_MS, undefined, { signal }).catch(() => {});
  throw new DatabaseUnavailable(`no answer within ${PING_TIMEOUT_MS} ms`);
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
  const { signal, random = randomFraction, ...modes } = options;
  // Drizzle turns an empty object into an empty SET TRANSACTION, which is a syntax error.
  const config = Object.keys(modes).length > 0 ? modes : undefined;
  for (let retries = 0; ; retries++) {
    try {
      return await db.transaction(work, config);
    } catch (error) {
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
