/**
 * Batches: what a claim hands over, as pushes and back. Pure decisions: which push goes to which device, what goes out at once,
 * and what the answers mean for a recipient.
 */

import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type ClaimedNotification,
  type LeasedRecipient,
  Outcome,
  Priority,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import type { PushMessage, PushResult } from "./push.ts";
import { isPostponed } from "./push-outcome.ts";

/** What is told to notification about recipients of a batch: the fields of a MarkProcessedRequest. */
export interface Report {
  leaseToken: string;
  outcomes: RecipientOutcome[];
  deadDeviceIds: string[];
}

interface RecipientOutcome extends Verdict {
  notificationId: string;
  userId: string;
}

/** A notification for one recipient: a message for each device. */
export interface Delivery {
  notificationId: string;
  userId: string;
  pushes: { deviceId: string; message: PushMessage }[];
}

/** What became of a recipient. */
interface Verdict {
  outcome: Outcome;
  code?: string;
  retryAfterSeconds?: number;
}

/** How long a push waits that met trouble which was not about it, unless FCM says more. */
const UNTRIED_PAUSE_SECONDS = 5;
/** What the last device that is gone leaves behind. */
const UNREGISTERED_CODE = "messaging/registration-token-not-registered";

/** What is to be pushed to the recipients that are under the lease now. */
export function deliveriesOf(notifications: ClaimedNotification[], recipients: LeasedRecipient[]): Delivery[] {
  const byId = new Map(notifications.map((notification) => [notification.notificationId, notification]));
  return recipients.flatMap(({ notificationId, userId, devices }) => {
    const notification = byId.get(notificationId);
    if (!notification) return [];
    const message = messageOf(notification);
    const pushes = devices.map(({ deviceId, token }) => ({ deviceId, message: { ...message, deviceToken: token } }));
    return [{ notificationId, userId, pushes }];
  });
}

function messageOf(notification: ClaimedNotification): Omit<PushMessage, "deviceToken"> {
  const { notificationId, title, text: body, data, priority, expiresAt } = notification;
  return {
    ...{ notificationId, title, body, data },
    priority: priority === Priority.HIGH ? "high" : "normal",
    expiresAtMs: expiresAt && timestampMs(expiresAt),
  };
}

/** The first recipients, as many as need `maxPushes` pushes, and one in any case. */
export function firstChunk(deliveries: Delivery[], maxPushes: number): Delivery[] {
  let count = 0;
  const end = deliveries.findIndex(({ pushes }) => {
    count += pushes.length;
    return count > maxPushes;
  });
  return end === -1 ? deliveries : deliveries.slice(0, Math.max(1, end));
}

/**
 * What became of a recipient with these devices. One that has it is enough: another try for the others would show it twice on
 * that one.
 */
export function verdictOf(results: PushResult[]): Verdict {
  if (results.length === 0) return { outcome: Outcome.NO_DEVICE };
  if (results.some(({ outcome }) => outcome === "sent")) return { outcome: Outcome.SENT };
  const postponed = results.filter(isPostponed);
  if (postponed.length === 0) {
    const rejected = results.findLast((result) => result.outcome === "rejected");
    return { outcome: Outcome.FAILED, code: rejected?.code ?? UNREGISTERED_CODE };
  }
  const tried = postponed.filter(({ outcome }) => outcome !== "untried");
  const isTried = tried.length > 0;
  const waits = postponed.map(
    ({ outcome, retryAfterSeconds }) => retryAfterSeconds ?? (outcome === "untried" ? UNTRIED_PAUSE_SECONDS : 0),
  );
  return {
    outcome: isTried ? Outcome.RETRY : Outcome.NOT_TRIED,
    code: (isTried ? tried : postponed).at(-1)!.code,
    retryAfterSeconds: Math.max(...waits),
  };
}

/**
 * The report on deliveries, whose `results` are in the order of their pushes. Dead devices of those who are tried again are not in
 * it: the next try tells of them.
 */
export function reportOf(leaseToken: string, deliveries: Delivery[], results: PushResult[]): Report {
  let next = 0;
  const deadDeviceIds = new Set<string>();
  const outcomes = deliveries.map(({ notificationId, userId, pushes }) => {
    const own = results.slice(next, next + pushes.length);
    next += pushes.length;
    const verdict = verdictOf(own);
    if (verdict.outcome === Outcome.SENT || verdict.outcome === Outcome.FAILED) {
      for (const [index, { outcome }] of own.entries()) {
        if (outcome === "unregistered") deadDeviceIds.add(pushes[index]!.deviceId);
      }
    }
    return { notificationId, userId, ...verdict };
  });
  return { leaseToken, outcomes, deadDeviceIds: [...deadDeviceIds] };
}
