/** What people do: their inbox, their devices, what they want to be told. Unpack, call one domain function, pack. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type MyNotificationSchema,
  type NotificationService,
  Platform,
  Priority,
  type WatchMyNotificationsResponseSchema,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { during } from "../../db/database.ts";
import { scopeOf, userOf } from "../../rpc/call.ts";
import { requireRecentLogin } from "../../rpc/recent-login.ts";
import { type Platform as DevicePlatform, listDevices, registerDevice, removeDevice } from "./devices.ts";
import { exportInbox } from "./exports.ts";
import { countUnread, type InboxEntry, listInbox, markRead, markReceived } from "./inbox.ts";
import type { InboxMessage } from "./inbox-stream.ts";
import { cursorOf, type LiveInbox } from "./live-inbox.ts";
import { listMutedTopics, muteTopic, unmuteTopic } from "./muted-topics.ts";
import type { NotificationContext } from "./service.ts";

// The contract's rules refuse what is not in it.
const PLATFORMS = new Map<Platform, DevicePlatform>([
  [Platform.ANDROID, "android"],
  [Platform.IOS, "ios"],
  [Platform.WEB, "web"],
]);
const PLATFORM_OF = { android: Platform.ANDROID, ios: Platform.IOS, web: Platform.WEB };
const PRIORITY_OF = { normal: Priority.NORMAL, high: Priority.HIGH };

export function inboxHandlers(notification: NotificationContext, liveInbox: LiveInbox) {
  return {
    ...entryHandlers(notification, liveInbox),
    ...preferenceHandlers(notification),
    async *exportMyData(_, context) {
      requireRecentLogin(context, notification.clock);
      const documents = exportInbox(during(notification.db, context.signal), userOf(context).userId);
      for await (const document of documents) yield { document };
    },
  } satisfies ServiceImpl<typeof NotificationService>;
}

function entryHandlers({ db }: NotificationContext, liveInbox: LiveInbox) {
  return {
    async listMyNotifications(request, context) {
      const { userId } = userOf(context);
      const { entries, nextPageToken } = await listInbox(during(db, context.signal), { ...request, userId });
      return { notifications: entries.map(packEntry), nextPageToken };
    },
    async countUnread(_, context) {
      return countUnread(during(db, context.signal), userOf(context).userId);
    },
    async *watchMyNotifications({ cursor }, context) {
      const messages = liveInbox.watch({ userId: userOf(context).userId, cursor }, context.signal);
      for await (const message of messages) yield packMessage(message);
    },
    async markReceived({ notificationId }, context) {
      const { userId } = userOf(context);
      const receivedAt = await markReceived(db, scopeOf(context), { notificationId, userId });
      return { receivedAt: timestampFromDate(receivedAt) };
    },
    async markRead({ notificationIds }, context) {
      await markRead(db, scopeOf(context), { notificationIds, userId: userOf(context).userId });
      return {};
    },
  } satisfies Partial<ServiceImpl<typeof NotificationService>>;
}

function preferenceHandlers({ db }: NotificationContext) {
  return {
    async registerDevice({ token, platform }, context) {
      const input = { userId: userOf(context).userId, token, platform: PLATFORMS.get(platform)! };
      return { deviceId: await registerDevice(db, scopeOf(context), input) };
    },
    async listMyDevices(_, context) {
      const devices = await listDevices(during(db, context.signal), userOf(context).userId);
      return {
        devices: devices.map(({ platform, createdAt, lastSeenAt, ...device }) => ({
          ...device,
          platform: PLATFORM_OF[platform],
          createdAt: timestampFromDate(createdAt),
          lastSeenAt: timestampFromDate(lastSeenAt),
        })),
      };
    },
    async removeDevice({ deviceId }, context) {
      await removeDevice(during(db, context.signal), { userId: userOf(context).userId, deviceId });
      return {};
    },
    async muteTopic({ topic }, context) {
      await muteTopic(db, scopeOf(context), { userId: userOf(context).userId, topic });
      return {};
    },
    async unmuteTopic({ topic }, context) {
      await unmuteTopic(during(db, context.signal), { userId: userOf(context).userId, topic });
      return {};
    },
    async listMutedTopics(_, context) {
      return { topics: await listMutedTopics(during(db, context.signal), userOf(context).userId) };
    },
  } satisfies Partial<ServiceImpl<typeof NotificationService>>;
}

function packEntry(entry: InboxEntry): MessageInitShape<typeof MyNotificationSchema> {
  const { createdAt, receivedAt, readAt, organizationId, priority, ...said } = entry;
  return {
    ...said,
    organizationId: organizationId ?? "",
    priority: PRIORITY_OF[priority],
    createdAt: timestampFromDate(createdAt),
    receivedAt: receivedAt ? timestampFromDate(receivedAt) : undefined,
    readAt: readAt ? timestampFromDate(readAt) : undefined,
  };
}

function packMessage({ place, change }: InboxMessage): MessageInitShape<typeof WatchMyNotificationsResponseSchema> {
  const cursor = cursorOf(place);
  if (change === undefined) return { cursor };
  if (change === "resync") return { cursor, change: { case: "resync", value: {} } };
  const { notificationId, entry } = change;
  if (!entry) return { cursor, change: { case: "cancelledNotificationId", value: notificationId } };
  return { cursor, change: { case: "notification", value: packEntry(entry) } };
}
