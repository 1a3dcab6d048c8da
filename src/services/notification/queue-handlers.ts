/** What senders and operators do: take what waits, tell what became of it, look after what was given up. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type NotificationInternalService,
  Outcome,
  Priority,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { during } from "../../db/database.ts";
import { scopeOf } from "../../rpc/call.ts";
import { ownerOf } from "./callers.ts";
import { listDeadLetters, redriveDeadLetters } from "./dead-letters.ts";
import { claim, extendLease, type LeasedNotification, listUnprocessed } from "./leases.ts";
import { readQueueStatus } from "./queue-status.ts";
import { markProcessed, type Result } from "./results.ts";
import type { NotificationContext } from "./service.ts";

// The contract's rules refuse what is not in it.
const RESULTS = new Map<Outcome, Result>([
  [Outcome.SENT, "sent"],
  [Outcome.NO_DEVICE, "no_device"],
  [Outcome.FAILED, "failed"],
  [Outcome.RETRY, "retry"],
  [Outcome.NOT_TRIED, "not_tried"],
]);

export function queueHandlers({ db, config: { maxTries } }: NotificationContext) {
  return {
    async listUnprocessed({ limit }, context) {
      const listed = await listUnprocessed(db, scopeOf(context), { owner: ownerOf(context), limit });
      return { notifications: listed.map(packNotification) };
    },
    async claim({ limit, leaseSeconds }, context) {
      const input = { owner: ownerOf(context), limit, leaseSeconds };
      const { lease, notifications } = await claim(db, scopeOf(context), input);
      return {
        leaseToken: lease?.token,
        leaseExpiresAt: lease && timestampFromDate(lease.expiresAt),
        notifications: notifications.map(packNotification),
      };
    },
    async extendLease({ leaseToken, leaseSeconds }, context) {
      const input = { owner: ownerOf(context), token: leaseToken, leaseSeconds };
      const { expiresAt, recipients } = await extendLease(db, scopeOf(context), input);
      return { leaseExpiresAt: timestampFromDate(expiresAt), recipients };
    },
    async markProcessed({ notificationIds, leaseToken, outcomes, deadDeviceIds }, context) {
      const marked = await markProcessed(db, scopeOf(context), {
        owner: ownerOf(context),
        leaseToken: leaseToken === "" ? undefined : leaseToken,
        notificationIds,
        results: outcomes.map(({ outcome, ...recipient }) => ({ ...recipient, result: RESULTS.get(outcome)! })),
        deadDeviceIds,
        maxTries,
      });
      return { marked };
    },
    async getQueueStatus(_, context) {
      const { oldestCreatedAt, ...status } = await readQueueStatus(during(db, context.signal));
      return { ...status, oldestCreatedAt: oldestCreatedAt && timestampFromDate(oldestCreatedAt) };
    },
    async listDeadLetters(request, context) {
      const { entries, nextPageToken } = await listDeadLetters(during(db, context.signal), request);
      const deadLetters = entries.map(({ diedAt, ...letter }) => ({ ...letter, diedAt: timestampFromDate(diedAt) }));
      return { deadLetters, nextPageToken };
    },
    async redriveDeadLetters(request, context) {
      return { redriven: await redriveDeadLetters(db, scopeOf(context), request) };
    },
  } satisfies Partial<ServiceImpl<typeof NotificationInternalService>>;
}

function packNotification({ expiresAt, priority, ...notification }: LeasedNotification) {
  return {
    ...notification,
    expiresAt: timestampFromDate(expiresAt),
    priority: priority === "high" ? Priority.HIGH : Priority.NORMAL,
  };
}
