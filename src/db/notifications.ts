/**
 * Listens to a channel of the database (LISTEN) on a connection of its own, which is opened again when it is lost. What was sent
 * in between is not heard, so nobody may rely on it alone; behind PgBouncer in transaction mode nothing is heard at all.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { connect, identifier } from "./connection.ts";

export interface NotificationOptions {
  url: string;
  /** As pg_stat_activity shows it. */
  applicationName: string;
  channel: string;
  /** Called for each notification, and once whenever listening has begun. */
  onNotify(): void;
}

const RECONNECT_MS = 1_000;

/** Starts listening; disposing closes the connection. */
export function listenTo(options: NotificationOptions): AsyncDisposable {
  const stopping = new AbortController();
  let open: Sql | undefined;
  const close = () => open?.end({ timeout: 0 }).catch(() => {});
  const listening = (async () => {
    while (!stopping.signal.aborted) {
      const lost = Promise.withResolvers<void>();
      const { url, applicationName, channel, onNotify } = options;
      open = connect(url, { applicationName, arrays: false, onClose: lost.resolve, onNotify });
      try {
        await open.unsafe(`listen ${identifier(channel)}`);
        onNotify();
        await lost.promise;
      } catch {
        // Away, as for everybody else, who says so.
      }
      await close();
      await delay(RECONNECT_MS, undefined, { signal: stopping.signal }).catch(() => {});
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await close();
      await listening;
    },
  };
}
