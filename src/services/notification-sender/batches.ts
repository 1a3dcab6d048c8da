/**
 * Batches: what one claim hands over, as pushes and back. Pure decisions: which push goes to which device, and what the
 * answers mean for a recipient.
 */

import { type ClaimedNotification, Outcome } from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import type { PushMessage, PushResult } from "./push.ts";

/** What became of one recipient of a notification. */
export interface RecipientOutcome {
  notificationId: string;
  userId: string;
  outcome: Outcome;
}

/** What is told to notification about a batch: the fields of a MarkProcessedRequest. */
export interface Report {
  leaseToken: string;
  outcomes: RecipientOutcome[];
  deadDeviceIds: string[];
}

/** One push: the message for a device of a recipient. */
export interface Delivery {
  userId: string;
  deviceId: string;
  message: PushMessage;
}

/** A push for every device of every recipient, in the order of the claim. */
export function deliveriesOf(notifications: ClaimedNotification[]): Delivery[] {
  return notifications.flatMap(({ notificationId, title, text, data, recipients }) =>
    recipients.flatMap(({ userId, devices }) =>
      devices.map(({ deviceId, token }) => ({
        userId,
        deviceId,
        message: { deviceToken: token, notificationId, title, body: text, data },
      })),
    ),
  );
}

/** How many recipients were claimed. */
export function recipientCount(notifications: ClaimedNotification[]): number {
  return notifications.reduce((count, { recipients }) => count + recipients.length, 0);
}

/**
 * What became of a recipient; undefined while it is not decided, so that it is tried again. One device that has it is
 * enough: another try for the others would show it twice on that one.
 */
export function outcomeOf(results: PushResult[]): Outcome | undefined {
  if (results.length === 0) return Outcome.NO_DEVICE;
  if (results.some(({ outcome }) => outcome === "sent")) return Outcome.SENT;
  if (results.some(({ outcome }) => outcome === "retry")) return undefined;
  return Outcome.FAILED;
}

/**
 * The report on a batch; `results` are those of the first deliveries, in order, and what has none was not pushed. Recipients
 * that are not decided are not in it. Dead devices of theirs are not either: the next try tells of them.
 */
export function reportOf(
  leaseToken: string,
  notifications: ClaimedNotification[],
  deliveries: Delivery[],
  results: PushResult[],
): Report {
  const byRecipient = Map.groupBy(
    deliveries.map((delivery, index) => ({ ...delivery, result: results[index] ?? NOT_PUSHED })),
    ({ userId, message }) => `${message.notificationId} ${userId}`,
  );
  const outcomes: RecipientOutcome[] = [];
  const deadDeviceIds = new Set<string>();
  for (const { notificationId, recipients } of notifications) {
    for (const { userId } of recipients) {
      const pushed = byRecipient.get(`${notificationId} ${userId}`) ?? [];
      const outcome = outcomeOf(pushed.map(({ result }) => result));
      if (outcome === undefined) continue;
      outcomes.push({ notificationId, userId, outcome });
      for (const { deviceId, result } of pushed) if (result.outcome === "unregistered") deadDeviceIds.add(deviceId);
    }
  }
  return { leaseToken, outcomes, deadDeviceIds: [...deadDeviceIds] };
}

/** The lease had too little time left. */
const NOT_PUSHED: PushResult = { outcome: "retry", code: "push/lease-too-short" };
