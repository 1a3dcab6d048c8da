/**
 * Deliveries: claim, look again, push, tell, chunk by chunk. Nothing is pushed unless a third of its lease is left by this
 * process's own clock, and while a push takes long its lease is prolonged; so no two senders push one recipient at a time. Nothing
 * new is pushed before the last chunk is told of; what is never told of is pushed again once its lease has run out, with the same
 * collapse key. That, and a push whose answer was lost, are the only ways to push twice.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "@connectrpc/connect";
import type {
  ClaimedNotification,
  LeasedRecipient,
  NotificationInternalService,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import type { Clock } from "../../clock.ts";
import { Code, reasonOf } from "../../errors.ts";
import { failpoint } from "../../failpoints.ts";
import type { Logger } from "../../log.ts";
import type { Tracing } from "../../telemetry/traces.ts";
import { type Delivery, deliveriesOf, firstChunk, type Report, reportOf } from "./batches.ts";
import type { Outages } from "./outages.ts";
import type { Postponed, Pusher, PushMessage, PushResult } from "./push.ts";

export interface DeliveryOptions {
  notification: Client<typeof NotificationInternalService>;
  pusher: Pusher;
  outages: Outages;
  /** Most recipients to claim at once. */
  batchSize: number;
  leaseSeconds: number;
  /** Called when a claim hands out so much that more seems to wait. */
  onMore?(): void;
  clock: Clock;
  log: Logger;
  tracing: Pick<Tracing, "resume">;
}

/**
 * The longest that a send may take: all of its pushes are written at once, and the SDK waits 15 s for each answer. The lease is
 * prolonged meanwhile. Where that fails, or the lease is lost or over by the own clock, nothing is left to be held back, but for
 * what exceeds FCM's limit of streams at once: that is begun within the same 15 s, or never.
 */
export const PUSH_TIMEOUT_MS = 20_000;
/** The most that one `send` takes. */
const PUSHES_AT_ONCE = 500;

// Why something claimed is given back; `retryAfterSeconds` 0: to others at once.
const PAUSED: Postponed = { outcome: "untried", code: "push/paused" };
const LEASE_TOO_SHORT: Postponed = { outcome: "untried", code: "push/lease-too-short", retryAfterSeconds: 0 };

/** A lease, and its end by the own clock, read before it was granted. */
interface Lease {
  token: string;
  endsAtMs: number;
}

export class Deliveries {
  readonly #options: DeliveryOptions;
  /** What could not be told yet. */
  #untold: Report | undefined;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /**
   * Delivers what there is, batch after batch, until nothing waits or nothing goes through. Throws what keeps it from claiming or
   * telling; the next run goes on from there. A signal ends it after the chunk that is under way, whose pushes are waited
   * for: to cut them off would push them twice.
   */
  async run(signal: AbortSignal): Promise<void> {
    await this.#tell();
    const { notification, batchSize: limit, leaseSeconds } = this.#options;
    while ((await this.#obstacle(signal)) === undefined) {
      const endsAtMs = this.#leaseEndMs();
      const { leaseToken: token, notifications } = await notification.claim({ limit, leaseSeconds });
      if (notifications.length === 0) return;
      // A claim shares itself out among queues, so it may hand out less than there is.
      if (notifications.reduce((count, { userIds }) => count + userIds.length, 0) > limit / 2) this.#options.onMore?.();
      await failpoint("sender.after_claim");
      await this.#deliver(notifications, { token, endsAtMs }, signal);
    }
  }

  /** Why nothing can be pushed now, if so. */
  async #obstacle(signal: AbortSignal): Promise<Postponed | undefined> {
    const { outages, pusher } = this.#options;
    if (outages.isPaused()) return PAUSED;
    const refusal = await pusher.prepare(signal);
    if (refusal && !signal.aborted) outages.note([refusal]);
    return refusal;
  }

  /** Chunk by chunk, each with the devices as they are then; what cannot be pushed is given back. */
  async #deliver(notifications: ClaimedNotification[], lease: Lease, signal: AbortSignal): Promise<void> {
    for (let isMore = true; isMore; ) {
      const obstacle = await this.#obstacle(signal);
      const waiting = deliveriesOf(notifications, await this.#lookAgain(lease));
      const chunk = obstacle ? waiting : firstChunk(waiting, PUSHES_AT_ONCE);
      if (chunk.length === 0) return;
      await failpoint("sender.before_push");
      const results = obstacle ? messagesOf(chunk).map(() => obstacle) : await this.#push(chunk, notifications, lease);
      await failpoint("sender.after_push");
      this.#untold = reportOf(lease.token, chunk, results);
      await this.#tell();
      await failpoint("sender.after_mark");
      isMore = chunk.length < waiting.length;
    }
  }

  /** When a lease would end that is asked for now. */
  #leaseEndMs(): number {
    const { clock, leaseSeconds } = this.#options;
    return clock.monotonic() + leaseSeconds * 1_000;
  }

  /** The recipients that are under it now. A lease of which half is over is prolonged on this occasion. */
  #lookAgain(lease: Lease): Promise<LeasedRecipient[]> {
    const isYoung = lease.endsAtMs - this.#options.clock.monotonic() > this.#options.leaseSeconds * 500;
    return this.#extend(lease, isYoung ? 0 : this.#options.leaseSeconds);
  }

  /** Nobody is left under it if it is lost: to another sender, or because everything was taken back. */
  async #extend(lease: Lease, leaseSeconds: number, signal?: AbortSignal): Promise<LeasedRecipient[]> {
    const endsAtMs = this.#leaseEndMs();
    try {
      const request = { leaseToken: lease.token, leaseSeconds };
      const { recipients } = await this.#options.notification.extendLease(request, { signal });
      if (leaseSeconds > 0) lease.endsAtMs = endsAtMs;
      return recipients;
    } catch (error) {
      if (reasonOf(error) !== "LEASE_LOST") throw error;
      return [];
    }
  }

  /** Pushes a chunk, as a part of the traces in which its notifications were created. */
  async #push(chunk: Delivery[], notifications: ClaimedNotification[], lease: Lease): Promise<PushResult[]> {
    const messages = messagesOf(chunk);
    if (messages.length === 0) return [];
    const ids = new Set(messages.map(({ notificationId }) => notificationId));
    const traces = notifications
      .filter(({ notificationId }) => ids.has(notificationId))
      .map(({ notificationId, traceparent }) => {
        return { notificationId, trace: this.#options.tracing.resume(traceparent, "push notification") };
      });
    const results = await this.#send(messages, lease);
    const sent = messages.filter((_, index) => results[index]?.outcome === "sent");
    const sentIds = new Set(sent.map(({ notificationId }) => notificationId));
    for (const { notificationId, trace } of traces) {
      trace?.end(sentIds.has(notificationId) ? undefined : Code.Unavailable);
    }
    return results;
  }

  async #send(messages: PushMessage[], lease: Lease): Promise<PushResult[]> {
    const { pusher, outages, clock, leaseSeconds } = this.#options;
    const over = new AbortController();
    // The last look before sockets are written to: whatever has held this process up may have cost it the lease.
    if (clock.monotonic() > lease.endsAtMs - (leaseSeconds * 1_000) / 3) return messages.map(() => LEASE_TOO_SHORT);
    const heartbeat = this.#keep(lease, over.signal);
    try {
      return outages.note(await pusher.send(messages));
    } finally {
      over.abort();
      await heartbeat;
    }
  }

  /** Prolongs the lease again and again, until the signal, or until it is lost. */
  async #keep(lease: Lease, signal: AbortSignal): Promise<void> {
    for (let isHeld = true; isHeld && !signal.aborted; ) {
      await delay((this.#options.leaseSeconds * 1_000) / 3, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      // What fails is tried again at the next beat; whether the lease was lost is seen before the next push.
      isHeld = await this.#extend(lease, this.#options.leaseSeconds, signal).then(
        (recipients) => recipients.length > 0,
        () => true,
      );
    }
  }

  async #tell(): Promise<void> {
    if (!this.#untold) return;
    const lost = await this.#tellHeld(this.#untold);
    if (lost > 0) {
      const message = "a lease ran out before its batch could be told of; another sender may push it again";
      this.#options.log.warn({ recipients: lost }, message);
    }
    this.#untold = undefined;
  }

  /**
   * Tells of those who are still under the lease; returns how many others there are. A refusal does not say who they are, so both
   * halves are told by themselves: a push that went out must not be made again because somebody else's was lost.
   */
  async #tellHeld(report: Report): Promise<number> {
    const { leaseToken, outcomes } = report;
    try {
      await this.#options.notification.markProcessed(report);
      return 0;
    } catch (error) {
      if (reasonOf(error) !== "LEASE_LOST") throw error;
    }
    if (outcomes.length === 1) return 1;
    // Mostly all is lost at once.
    const held = await this.#extend({ token: leaseToken, endsAtMs: 0 }, 0);
    if (held.length === 0) return outcomes.length;
    const middle = Math.ceil(outcomes.length / 2);
    const lost = await this.#tellHeld({ ...report, outcomes: outcomes.slice(0, middle) });
    return lost + (await this.#tellHeld({ ...report, outcomes: outcomes.slice(middle) }));
  }
}

function messagesOf(deliveries: Delivery[]): PushMessage[] {
  return deliveries.flatMap(({ pushes }) => pushes.map(({ message }) => message));
}
