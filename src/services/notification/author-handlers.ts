/** What those do who have something to say: create, cancel, look what became of it. Unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type NotificationInternalService,
  Priority,
  RecipientState,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { scopeOf } from "../../rpc/call.ts";
import { lookedAfterBy, ownerOf } from "./callers.ts";
import { cancelNotification } from "./cancellations.ts";
import { idempotencyKeyOf } from "./idempotency-keys.ts";
import { createNotification } from "./notifications.ts";
import { type ListedRecipient, listRecipients, type RecipientState as State } from "./recipients.ts";
import type { NotificationContext } from "./service.ts";

const STATES: Record<State, RecipientState> = {
  pending: RecipientState.PENDING,
  sent: RecipientState.SENT,
  failed: RecipientState.FAILED,
  cancelled: RecipientState.CANCELLED,
};

export function authorHandlers(notification: NotificationContext) {
  const { db } = notification;
  return {
    async createNotification(request, context) {
      const { title, text, data, topic, ttlSeconds, priority, role, allMembers, userIds } = request;
      const scope = scopeOf(context);
      const organizationId = request.organizationId.toLowerCase();
      const draft = {
        ...{ title, text, data, topic, ttlSeconds, organizationId },
        isUrgent: priority === Priority.HIGH,
        author: ownerOf(context),
        traceparent: scope.trace.traceparent,
        idempotencyKey: idempotencyKeyOf(request),
      };
      return createNotification(notification, scope, draft, { organizationId, userIds, role, allMembers });
    },
    async cancelNotification({ notificationId }, context) {
      const which = { notificationId, author: lookedAfterBy(context) };
      return { cancelled: await cancelNotification(db, scopeOf(context), which) };
    },
    async listRecipients(request, context) {
      const which = { ...request, author: lookedAfterBy(context) };
      const { entries, nextPageToken } = await listRecipients(db, scopeOf(context), which);
      return { recipients: entries.map(packRecipient), nextPageToken };
    },
  } satisfies Partial<ServiceImpl<typeof NotificationInternalService>>;
}

function packRecipient({ state, processedAt, receivedAt, readAt, ...recipient }: ListedRecipient) {
  const { userId, code, failedTries } = recipient;
  return {
    ...{ userId, code, failedTries, state: STATES[state] },
    processedAt: processedAt ? timestampFromDate(processedAt) : undefined,
    receivedAt: receivedAt ? timestampFromDate(receivedAt) : undefined,
    readAt: readAt ? timestampFromDate(readAt) : undefined,
  };
}
