/** notification's RPCs, by who calls them. */
import {
  NotificationInternalService,
  NotificationService,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { implement } from "../../service.ts";
import { authorHandlers } from "./author-handlers.ts";
import { inboxHandlers } from "./inbox-handlers.ts";
import type { LiveInbox } from "./live-inbox.ts";
import { queueHandlers } from "./queue-handlers.ts";
import type { NotificationContext } from "./service.ts";

export function notificationHandlers(notification: NotificationContext, liveInbox: LiveInbox) {
  return [
    implement(NotificationService, inboxHandlers(notification, liveInbox)),
    implement(NotificationInternalService, { ...authorHandlers(notification), ...queueHandlers(notification) }),
  ];
}
