/**
 * Pushes notifications to devices through Firebase Cloud Messaging and says, message by message, what became of each.
 * FCM knows no idempotency key: a push whose answer is lost may be sent twice. So each carries its notification's id
 * as collapse key, tag and data on every platform, and a device shows it once. Nothing about the key ever leaves this
 * module.
 */
import type { Message } from "firebase-admin/messaging";
import type { Clock } from "../../clock.ts";
import type { ServiceAccountKey } from "./push-credentials.ts";
import { type FirebaseSession, loadSdk, openSession, parseEndpoint } from "./push-firebase.ts";
import {
  outcomeOfError,
  outcomeOfTokenError,
  type Postponed,
  type PushResult,
  UNAUTHENTICATED_CODE,
} from "./push-outcome.ts";

export type { Postponed, PushResult } from "./push-outcome.ts";

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
  /** Whether it may wake the device. */
  priority: "high" | "normal";
  /** Milliseconds since 1970 after which the push service drops it; not set: after four weeks. */
  expiresAtMs?: number;
}

export interface PusherOptions {
  key: ServiceAccountKey;
  /** A push stand-in's `http://host:port`, to which all traffic goes instead of Google. Never in production. */
  endpoint?: string;
  /** How long one `send` may take; what has no answer by then is to be retried. */
  sendTimeoutMs: number;
  clock: Clock;
}

export interface Pusher extends AsyncDisposable {
  /**
   * Sends at most 500 messages, FCM's limit for one call, and resolves with one result for each, by index. Never
   * rejects. A send that is interrupted (by the timeout or disposal) resolves at once, every result being "unanswered".
   */
  send(messages: readonly PushMessage[]): Promise<PushResult[]>;
  /**
   * Fetches an access token unless there is one that is good for some minutes, which takes 10 s at most: a send soon after writes
   * at once. Resolves with the reason why there is none, the signal among them, or with nothing. Never rejects.
   */
  prepare(signal: AbortSignal): Promise<Postponed | undefined>;
}

/** Loads the SDK; reaches no network. Throws a StartupError for a bad endpoint. */
export async function createPusher({ key, endpoint, sendTimeoutMs, clock }: PusherOptions): Promise<Pusher> {
  const standIn = endpoint === undefined ? undefined : parseEndpoint(endpoint);
  const sdk = await loadSdk();
  return new FirebasePusher(() => openSession(sdk, key, standIn), sendTimeoutMs, clock);
}

class FirebasePusher implements Pusher {
  readonly #open: () => FirebaseSession;
  readonly #sendTimeoutMs: number;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  /** Every session that may still be open; all but the current are only finishing their calls. */
  readonly #sessions = new Set<FirebaseSession>();
  #current: FirebaseSession | undefined;

  constructor(open: () => FirebaseSession, sendTimeoutMs: number, clock: Clock) {
    this.#open = open;
    this.#sendTimeoutMs = sendTimeoutMs;
    this.#clock = clock;
    // What cannot be opened fails the start, not a send.
    this.#session();
  }

  async send(messages: readonly PushMessage[]): Promise<PushResult[]> {
    if (this.#closing.signal.aborted) return messages.map(() => CLOSED);
    const session = this.#session();
    const interruption = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#sendTimeoutMs)]);
    const results = await unlessAborted(this.#call(session, messages), interruption);
    const isRefused = results?.some((result) => "code" in result && result.code === UNAUTHENTICATED_CODE);
    if (results && !isRefused) return results;
    if (this.#current === session) this.#current = undefined;
    session.retire();
    const code = this.#closing.signal.aborted ? CLOSED.code : "push/deadline-exceeded";
    return results ?? messages.map(() => ({ outcome: "unanswered", code }));
  }

  async prepare(signal: AbortSignal): Promise<Postponed | undefined> {
    const interruption = AbortSignal.any([this.#closing.signal, signal]);
    if (interruption.aborted) return CLOSED;
    const token = this.#session().fetchToken();
    const refusal = await unlessAborted(
      token.then(() => undefined, outcomeOfTokenError),
      interruption,
    );
    return interruption.aborted ? CLOSED : refusal;
  }

  #session(): FirebaseSession {
    if (this.#current) return this.#current;
    const session = this.#open();
    this.#sessions.add(session);
    void session.closed.then(() => this.#sessions.delete(session));
    this.#current = session;
    return session;
  }

  async #call(session: FirebaseSession, messages: readonly PushMessage[]): Promise<PushResult[]> {
    const nowMs = this.#clock.now();
    const fcmMessages = messages.map((message) => fcmMessageOf(message, nowMs));
    try {
      const { responses } = await session.call((messaging) => messaging.sendEach(fcmMessages));
      return responses.map(({ messageId, error }) =>
        messageId === undefined ? outcomeOfError(error) : { outcome: "sent", messageId },
      );
    } catch (error) {
      return messages.map(() => outcomeOfError(error));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#sessions].map((session) => session[Symbol.asyncDispose]()));
  }
}

/** Nothing of it was begun: others may have it at once. */
const CLOSED: Postponed = { outcome: "untried", code: "push/closed", retryAfterSeconds: 0 };

/** Four weeks: FCM refuses more. */
const MAX_TTL_MS = 2_419_200_000;

/** The FCM message: the same identity on every platform, so that a second copy replaces the first. */
function fcmMessageOf(
  { deviceToken, notificationId, title, body, data, ...message }: PushMessage,
  nowMs: number,
): Message {
  const { priority, expiresAtMs = nowMs + MAX_TTL_MS } = message;
  const ttlSeconds = Math.floor(Math.min(Math.max(0, expiresAtMs - nowMs), MAX_TTL_MS) / 1_000);
  const apnsHeaders = {
    "apns-collapse-id": notificationId,
    "apns-priority": priority === "high" ? "10" : "5",
    "apns-expiration": String(Math.floor(expiresAtMs / 1_000)),
  };
  return {
    token: deviceToken,
    notification: { title, body },
    data: { ...data, notification_id: notificationId },
    android: { collapseKey: notificationId, priority, ttl: ttlSeconds * 1_000, notification: { tag: notificationId } },
    apns: { headers: apnsHeaders },
    webpush: {
      headers: { Urgency: priority, TTL: String(ttlSeconds) },
      notification: { tag: notificationId },
    },
  };
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
