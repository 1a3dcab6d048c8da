/**
 * Plain postgres.js connections, outside Drizzle: administration, migrations, locks. One place sets what every
 * connection of ours has: quick reconnects, no notices, UTC, a name that shows in pg_stat_activity.
 */
import postgres, { type Options, type Sql } from "postgres";

export interface ConnectionOptions {
  /** Shown in pg_stat_activity. */
  applicationName: string;
  /** Connections at most; the default is 1. */
  max?: number;
  /** Server settings of each connection, in milliseconds where they are times. */
  settings?: Record<string, number>;
  /**
   * Whether arrays can be parameters and results; the default is yes. The driver asks for their types at every connecting, and an
   * unhandled rejection ends the process if the connection is cut just then: nothing that serves goes without `false`.
   */
  arrays?: boolean;
  /** Called when a connection is gone, for whatever reason. */
  onClose?: () => void;
  /** Called for each notification of a channel that the connection listens to. */
  onNotify?: () => void;
}

/** The driver has this option, under its own listen(); its types do not say so. */
type DriverOptions = Options<Record<string, never>> & { onnotify?: (() => void) | undefined };

export const CONNECT_TIMEOUT_SECONDS = 5;
const RECONNECT_DELAY_SECONDS = 0.1;

/** A client that connects at its first query; end it with `end({ timeout })`. */
export function connect(url: string, options: ConnectionOptions): Sql {
  const driverOptions: DriverOptions = {
    max: options.max ?? 1,
    // postgres.js takes the name out of a URL without decoding it
    database: databaseOf(url),
    connect_timeout: CONNECT_TIMEOUT_SECONDS,
    // the library waits up to 20 s after a long outage; a refused connection is cheap, being down is not
    backoff: () => RECONNECT_DELAY_SECONDS,
    // a connection is ended by us, never by its age: its age does not know of our transactions
    max_lifetime: null,
    fetch_types: options.arrays ?? true,
    onclose: options.onClose,
    onnotify: options.onNotify,
    onnotice: () => {},
    connection: { application_name: options.applicationName, TimeZone: "UTC", ...options.settings },
  };
  return postgres(url, driverOptions);
}

/**
 * A client whose one connection is never replaced: when it is lost, every later query fails. For what lives in a
 * session (locks, BEGIN without a callback), which a silent reconnect would lose.
 */
export function connectOnce(url: string, options: Omit<ConnectionOptions, "max" | "onClose" | "onNotify">): Sql {
  const sql = connect(url, {
    ...options,
    onClose: () => {
      sql.end({ timeout: 0 }).catch(() => {});
    },
  });
  return sql;
}

/** The database a URL names. */
export function databaseOf(url: string): string {
  // Not by URL, which takes one host only where the driver takes several.
  return decodeURIComponent(/^[a-z]+:\/\/[^/?#]*\/([^?#]*)/.exec(url)?.[1] ?? "");
}

/** The same server with another database, and another role if one is given. */
export function withDatabase(url: string, database: string, login?: { role: string; password: string }): string {
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(database)}`;
  if (login) {
    changed.username = encodeURIComponent(login.role);
    changed.password = encodeURIComponent(login.password);
  }
  return changed.href;
}

/** Quotes a name for SQL. Throws if PostgreSQL would cut it or cannot hold it. */
export function identifier(name: string): string {
  if (name === "" || name.includes("\0") || Buffer.byteLength(name) > 63) {
    throw new Error("an SQL name has 1 to 63 bytes and no NUL");
  }
  return `"${name.replaceAll('"', '""')}"`;
}

/** Quotes a text for SQL, whatever the server makes of backslashes. Throws if PostgreSQL cannot hold it. */
export function literal(text: string): string {
  if (text.includes("\0")) throw new Error("an SQL text has no NUL");
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
