/**
 * Deliveries: claim, push, tell. Nothing is pushed that the claim's lease does not cover until the push must have ended, by
 * this process's own clock read before the claim was sent; so no two senders push one recipient at a time. Nothing new is
 * claimed before the last batch is told of; what is never told of is pushed again once its lease has run out, with the same
 * collapse key. That, and a push whose answer was lost, are the only ways to push twice.
 */
import type { Client } from "@connectrpc/connect";
import type {
  ClaimResponse,
  NotificationInternalService,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import type { Clock } from "../../clock.ts";
import { reasonOf } from "../../errors.ts";
import { failpoint } from "../../failpoints.ts";
import type { Logger } from "../../log.ts";
import { deliveriesOf, type Report, recipientCount, reportOf } from "./batches.ts";
import type { Pusher, PushResult } from "./push.ts";

export interface DeliveryOptions {
  notification: Client<typeof NotificationInternalService>;
  /** Its sends end within PUSH_TIMEOUT_MS. */
  pusher: Pusher;
  /** Most recipients to claim at once. */
  batchSize: number;
  /** At least MIN_LEASE_SECONDS. */
  leaseSeconds: number;
  clock: Clock;
  log: Logger;
}

/** The longest that a push may take: what FCM's own SDK waits for its answer. */
export const PUSH_TIMEOUT_MS = 15_000;
/** What a lease must have left for telling, when the last push has ended. */
const TELL_RESERVE_MS = 5_000;
/** The most that one `send` takes. */
const PUSHES_AT_ONCE = 500;
/** Leaves five seconds for claiming and for starting pushes. */
export const MIN_LEASE_SECONDS = 25;

export class Deliveries {
  readonly #options: DeliveryOptions;
  /** What could not be told yet. */
  #untold: Report | undefined;
  #isRefused = false;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /**
   * Delivers what there is, batch after batch while they are full and something of them is decided. Throws what keeps it from
   * claiming or telling; the next run goes on from there. A signal ends it after the batch that is under way, whose pushes are
   * waited for: to cut them off would push them twice.
   */
  async run(signal: AbortSignal): Promise<void> {
    await this.#tell();
    let isFull = true;
    while (isFull && !signal.aborted) {
      const { batchSize, leaseSeconds, clock } = this.#options;
      const leaseEndsAtMs = clock.monotonic() + leaseSeconds * 1_000;
      const claim = await this.#options.notification.claim({ limit: batchSize, leaseSeconds });
      if (claim.notifications.length === 0) return;
      await failpoint("sender.after_claim");
      const report = await this.#push(claim, leaseEndsAtMs);
      await failpoint("sender.after_push");
      this.#untold = report;
      await this.#tell();
      isFull = recipientCount(claim.notifications) === batchSize && report.outcomes.length > 0;
    }
  }

  async #push({ leaseToken, notifications }: ClaimResponse, leaseEndsAtMs: number): Promise<Report> {
    const { pusher, clock } = this.#options;
    const deliveries = deliveriesOf(notifications);
    const results: PushResult[] = [];
    for (let start = 0; start < deliveries.length; start += PUSHES_AT_ONCE) {
      if (clock.monotonic() > leaseEndsAtMs - PUSH_TIMEOUT_MS - TELL_RESERVE_MS) break;
      const messages = deliveries.slice(start, start + PUSHES_AT_ONCE).map(({ message }) => message);
      results.push(...(await pusher.send(messages)));
    }
    this.#noteRefusals(results);
    return reportOf(leaseToken, notifications, deliveries, results);
  }

  async #tell(): Promise<void> {
    const report = this.#untold;
    if (!report) return;
    try {
      if (report.outcomes.length > 0) await this.#options.notification.markProcessed(report);
    } catch (error) {
      if (reasonOf(error) !== "LEASE_LOST") throw error;
      this.#options.log.warn("a lease ran out before its batch could be told of; another sender may push it again");
    }
    this.#untold = undefined;
  }

  /** Says once that pushes do not go through, and once that they do again: the log tells an outage, not its every second. */
  #noteRefusals(results: PushResult[]): void {
    const { log } = this.#options;
    const codes = new Set(results.flatMap((result) => (result.outcome === "retry" ? [result.code] : [])));
    if (codes.size > 0 && !this.#isRefused) log.warn({ codes: [...codes] }, "pushes fail, they will be tried again");
    if (codes.size === 0 && this.#isRefused) log.info("pushes go through again");
    this.#isRefused = codes.size > 0;
  }
}
