/**
 * The client behind redis.ts, in a module of its own: its type is of a package that users of the client need not have, and
 * what they import must not name it.
 */

interface RedisAddress {
  /** redis: or rediss: */
  url: string;
  /** PEM of the authorities to trust, instead of those that this machine trusts. */
  ca?: string | undefined;
  /** The longest to wait for an answer, in milliseconds. */
  timeoutMs: number;
}

const CONNECT_TIMEOUT_MS = 2_000;
/** After a failure. */
export const LEFT_ALONE_MS = 1_000;

/** A client that begins to connect; what it is asked before it has, or that is not answered in time, fails. */
export async function connectRedis({ url, ca, timeoutMs }: RedisAddress) {
  const { Redis: Client } = await import("ioredis");
  return new Client(url, {
    tls: url.startsWith("rediss:") ? { ca } : undefined,
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: timeoutMs,
    retryStrategy: () => LEFT_ALONE_MS,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    disableClientInfo: true,
  });
}
