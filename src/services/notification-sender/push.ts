/**
 * Pushes notifications to devices through Firebase Cloud Messaging and says, message by message, what became of each.
 * FCM knows no idempotency key: a push whose answer is lost may be sent twice. So each carries its notification's id
 * as collapse key, tag and data on every platform, and a device shows it once. Nothing about the key ever leaves this
 * module.
 */
import type { Message } from "firebase-admin/messaging";
import type { Clock } from "../../clock.ts";
import { type CredentialsSource, readCredentials } from "./push-credentials.ts";
import { type FirebaseSession, loadSdk, openSession, parseEndpoint } from "./push-firebase.ts";
import { outcomeOfError, type PushResult, UNAUTHENTICATED_CODE } from "./push-outcome.ts";

export type { PushResult } from "./push-outcome.ts";

/** One notification for one device. */
export interface PushMessage {
  /** FCM's registration token of the device. */
  deviceToken: string;
  /** The notification's id, at most 64 bytes (APNs' limit): the same for every try. */
  notificationId: string;
  /** Shown as they are: nothing in them is a template. */
  title: string;
  body: string;
  /** For the app; `notification_id` is added. With title and body at most 4,096 bytes, or FCM rejects it. */
  data: Record<string, string>;
  /** How long FCM keeps it for a device that is offline; 0 is now or never. FCM's default and most is four weeks. */
  ttlSeconds?: number;
}

export type PusherOptions = CredentialsSource & {
  clock: Clock;
  /** A push stand-in's `http://host:port`, to which all traffic goes instead of Google. Never in production. */
  endpoint?: string;
  /** How long one `send` may take; what has no answer by then is to be retried. Default 30 s; FCM gets 15 s a push. */
  sendTimeoutMs?: number;
};

export interface Pusher extends AsyncDisposable {
  /**
   * Sends the messages, 500 at a time, and resolves with one result for each, by index. Never rejects. A send that is
   * interrupted (by the signal, the timeout or disposal) resolves at once; what is not known then is "retry".
   */
  send(messages: readonly PushMessage[], signal?: AbortSignal): Promise<PushResult[]>;
}

/** FCM's and the SDK's limit for one call. */
const MAX_BATCH_SIZE = 500;
const DEFAULT_SEND_TIMEOUT_MS = 30_000;
const MAX_TTL_S = 28 * 24 * 60 * 60;

/** Reads the key and loads the SDK; reaches no network. Throws a StartupError for a bad key or endpoint. */
export async function createPusher(options: PusherOptions): Promise<Pusher> {
  const endpoint = options.endpoint === undefined ? undefined : parseEndpoint(options.endpoint);
  const key = await readCredentials(options);
  const sdk = await loadSdk();
  return new FirebasePusher(() => openSession(sdk, key, endpoint), options);
}

class FirebasePusher implements Pusher {
  readonly #open: () => FirebaseSession;
  readonly #clock: Clock;
  readonly #sendTimeoutMs: number;
  readonly #closing = new AbortController();
  /** Every session that may still be open; all but the current are only finishing their calls. */
  readonly #sessions = new Set<FirebaseSession>();
  #current: FirebaseSession | undefined;

  constructor(open: () => FirebaseSession, options: { clock: Clock; sendTimeoutMs?: number }) {
    this.#open = open;
    this.#clock = options.clock;
    this.#sendTimeoutMs = options.sendTimeoutMs ?? DEFAULT_SEND_TIMEOUT_MS;
    // What cannot be opened fails the start, not a send.
    this.#session();
  }

  async send(messages: readonly PushMessage[], signal?: AbortSignal): Promise<PushResult[]> {
    const signals = signal ? [this.#closing.signal, signal] : [this.#closing.signal];
    const interruption = AbortSignal.any([...signals, AbortSignal.timeout(this.#sendTimeoutMs)]);
    const results: PushResult[] = [];
    for (let start = 0; start < messages.length; start += MAX_BATCH_SIZE) {
      const batch = messages.slice(start, start + MAX_BATCH_SIZE);
      const answered = await this.#sendBatch(batch, interruption);
      const code = this.#closing.signal.aborted
        ? "push/closed"
        : signal?.aborted
          ? "push/aborted"
          : "push/deadline-exceeded";
      results.push(...(answered ?? batch.map(() => ({ outcome: "retry", code }) satisfies PushResult)));
    }
    return results;
  }

  /** The results of at most 500 messages, or undefined if the interruption came first. */
  async #sendBatch(batch: readonly PushMessage[], interruption: AbortSignal): Promise<PushResult[] | undefined> {
    if (interruption.aborted) return undefined;
    const session = this.#session();
    const results = await unlessAborted(this.#call(session, batch), interruption);
    const isRefused = results?.some((result) => result.outcome === "retry" && result.code === UNAUTHENTICATED_CODE);
    if (results && !isRefused) return results;
    if (this.#current === session) this.#current = undefined;
    session.retire();
    return results;
  }

  #session(): FirebaseSession {
    if (this.#current) return this.#current;
    const session = this.#open();
    this.#sessions.add(session);
    void session.closed.then(() => this.#sessions.delete(session));
    this.#current = session;
    return session;
  }

  async #call(session: FirebaseSession, batch: readonly PushMessage[]): Promise<PushResult[]> {
    const nowMs = this.#clock.now();
    const messages = batch.map((message) => fcmMessageOf(message, nowMs));
    try {
      const { responses } = await session.call((messaging) => messaging.sendEach(messages));
      return responses.map(({ messageId, error }) =>
        messageId === undefined ? outcomeOfError(error, this.#clock.now()) : { outcome: "sent", messageId },
      );
    } catch (error) {
      return batch.map(() => outcomeOfError(error, this.#clock.now()));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#sessions].map((session) => session[Symbol.asyncDispose]()));
  }
}

/** The FCM message: the same identity on every platform, so that a second copy replaces the first. */
export function fcmMessageOf(message: PushMessage, nowMs: number): Message {
  const { notificationId, title, body } = message;
  const ttlSeconds = message.ttlSeconds === undefined ? undefined : Math.min(message.ttlSeconds, MAX_TTL_S);
  return {
    token: message.deviceToken,
    notification: { title, body },
    data: { ...message.data, notification_id: notificationId },
    android: {
      collapseKey: notificationId,
      notification: { tag: notificationId },
      ...(ttlSeconds !== undefined && { ttl: ttlSeconds * 1000 }),
    },
    apns: {
      headers: {
        "apns-collapse-id": notificationId,
        ...(ttlSeconds !== undefined && { "apns-expiration": apnsExpiration(ttlSeconds, nowMs) }),
      },
    },
    webpush: {
      notification: { tag: notificationId },
      ...(ttlSeconds !== undefined && { headers: { TTL: String(ttlSeconds) } }),
    },
  };
}

/** APNs wants the Unix second at which it gives up, and 0 for "try once". */
function apnsExpiration(ttlSeconds: number, nowMs: number): string {
  return ttlSeconds === 0 ? "0" : String(Math.floor(nowMs / 1000) + ttlSeconds);
}

/** Waits for the work, but no longer than the signal allows; leaves no listener behind. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const aborted = Promise.withResolvers<undefined>();
  const onAbort = () => aborted.resolve(undefined);
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
