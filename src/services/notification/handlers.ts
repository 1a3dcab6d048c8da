/** notification's RPCs: unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext } from "@connectrpc/connect";
import {
  NotificationInternalService,
  NotificationService,
  Outcome,
  Platform,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { during } from "../../db/database.ts";
import { keyHolderOf, scopeOf, userOf } from "../../rpc/call.ts";
import { requireRecentLogin } from "../../rpc/recent-login.ts";
import { implement } from "../../service.ts";
import { type Platform as DevicePlatform, registerDevice } from "./devices.ts";
import { exportInbox } from "./exports.ts";
import { claim, listUnprocessed } from "./leases.ts";
import { createNotification, listInbox, markReceived } from "./notifications.ts";
import { markProcessed, type Outcome as RecipientResult } from "./results.ts";
import type { NotificationContext } from "./service.ts";

// The contract's rules refuse what is not in these.
const PLATFORMS = new Map<Platform, DevicePlatform>([
  [Platform.ANDROID, "android"],
  [Platform.IOS, "ios"],
  [Platform.WEB, "web"],
]);
const OUTCOMES = new Map<Outcome, RecipientResult>([
  [Outcome.SENT, "sent"],
  [Outcome.NO_DEVICE, "no_device"],
  [Outcome.FAILED, "failed"],
]);

export function notificationHandlers(notification: NotificationContext) {
  return [publicHandlers(notification), internalHandlers(notification.db)];
}

function publicHandlers({ db, clock }: NotificationContext) {
  return implement(NotificationService, {
    async listMyNotifications({ pageSize, pageToken }, context) {
      const { userId } = userOf(context);
      const { entries, nextPageToken } = await listInbox(during(db, context.signal), { userId, pageSize, pageToken });
      return {
        notifications: entries.map(({ createdAt, receivedAt, ...entry }) => ({
          ...entry,
          createdAt: timestampFromDate(createdAt),
          receivedAt: receivedAt ? timestampFromDate(receivedAt) : undefined,
        })),
        nextPageToken,
      };
    },
    async markReceived({ notificationId }, context) {
      const { userId } = userOf(context);
      const receivedAt = await markReceived(db, scopeOf(context), { notificationId, userId });
      return { receivedAt: timestampFromDate(receivedAt) };
    },
    async registerDevice({ token, platform }, context) {
      const { userId } = userOf(context);
      const input = { userId, token, platform: PLATFORMS.get(platform)! };
      return { deviceId: await registerDevice(db, scopeOf(context), input) };
    },
    async *exportMyData(_, context) {
      requireRecentLogin(context, clock);
      const documents = exportInbox(during(db, context.signal), userOf(context).userId);
      for await (const document of documents) yield { document };
    },
  });
}

function internalHandlers(db: NotificationContext["db"]) {
  return implement(NotificationInternalService, {
    async createNotification(request, context) {
      return { notificationId: await createNotification(db, scopeOf(context), request) };
    },
    async listUnprocessed({ limit }, context) {
      return { notifications: await listUnprocessed(db, scopeOf(context), { owner: ownerOf(context), limit }) };
    },
    async claim({ limit, leaseSeconds }, context) {
      const input = { owner: ownerOf(context), limit, leaseSeconds };
      const { lease, notifications, devices } = await claim(db, scopeOf(context), input);
      return {
        leaseToken: lease?.token,
        leaseExpiresAt: lease && timestampFromDate(lease.expiresAt),
        notifications: notifications.map(({ userIds, ...notification }) => ({
          ...notification,
          recipients: userIds.map((userId) => ({ userId, devices: devices.get(userId) })),
        })),
      };
    },
    async markProcessed({ notificationIds, leaseToken, outcomes, deadDeviceIds }, context) {
      const marked = await markProcessed(db, scopeOf(context), {
        owner: ownerOf(context),
        leaseToken: leaseToken === "" ? undefined : leaseToken,
        notificationIds,
        outcomes: outcomes.map(({ outcome, ...recipient }) => ({ ...recipient, outcome: OUTCOMES.get(outcome)! })),
        deadDeviceIds,
      });
      return { marked };
    },
  });
}

/** Who holds a lease: with the kind, because a backend may have an operator's name. */
function ownerOf(context: HandlerContext): string {
  const { kind, name } = keyHolderOf(scopeOf(context));
  return `${kind} ${name}`;
}
