/**
 * notification: messages to people, the devices that show them, and the ledger of what was pushed. It pushes nothing itself;
 * notification-sender claims what waits here and reports what became of it.
 */

import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { file_concierge_notification_v1_notification_events } from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { OrganizationInternalService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { config } from "./config.ts";
import { forgetDevices } from "./devices.ts";
import { followers } from "./followers.ts";
import { notificationHandlers } from "./handlers.ts";
import { inboxPages } from "./inbox-pages.ts";
import { LiveInbox } from "./live-inbox.ts";
import { watchQueue } from "./queue-status.ts";
import { deleteOldNotifications } from "./retention.ts";

const peers = {
  access: AccessInternalService,
  auth: AuthInternalService,
  organization: OrganizationInternalService,
};

export type NotificationContext = ServiceContext<typeof config, typeof peers>;

export const notification = defineService({
  name: "notification",
  ports: { public: 8085, internal: 50055 },
  config,
  services: [NotificationService, NotificationInternalService],
  events: file_concierge_notification_v1_notification_events,
  peers,
  afterLoss: forgetDevices,
  async start(context) {
    const queue = watchQueue(context.db);
    const liveInbox = new LiveInbox(context);
    return {
      implementations: notificationHandlers(context, liveInbox),
      followers,
      jobs: [queue.job, liveInbox.job(), deleteOldNotifications(context.db, context.config.keepDays)],
      gauges: [...queue.gauges, liveInbox.gauge()],
      plain: context.mode === "development" ? await inboxPages() : {},
    };
  },
});
