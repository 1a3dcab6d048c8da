/**
 * notification: messages to people, the devices that show them, and the ledger of what was pushed. It pushes nothing itself;
 * notification-sender claims what waits here and reports what became of it.
 */

import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { file_concierge_notification_v1_notification_events } from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { config } from "./config.ts";
import { followers } from "./followers.ts";
import { notificationHandlers } from "./handlers.ts";

const peers = { auth: AuthInternalService };

export type NotificationContext = ServiceContext<typeof config, typeof peers>;

export const notification = defineService({
  name: "notification",
  ports: { public: 8085, internal: 50055 },
  config,
  services: [NotificationService, NotificationInternalService],
  events: file_concierge_notification_v1_notification_events,
  peers,
  start: (context) => ({ implementations: notificationHandlers(context), followers }),
});
