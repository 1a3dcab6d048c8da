/**
 * notification-sender: pushes what waits in notification, through Firebase. It has no API and stores nothing: what it has
 * claimed and what it owes is in notification's ledger, so it may die at any moment. notification's feed wakes it; it looks at
 * intervals all the same, for what is tried again.
 */
import { NotificationCreatedSchema } from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import { NotificationInternalService } from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { defineService } from "../../service.ts";
import { config } from "./config.ts";
import { PUSH_TIMEOUT_MS } from "./deliveries.ts";
import { createLanes } from "./lanes.ts";
import { Outages } from "./outages.ts";
import { createPusher } from "./push.ts";

export const notificationSender = defineService({
  name: "notification-sender",
  ports: { public: 8088, internal: 50058 },
  config,
  services: [],
  peers: { notification: NotificationInternalService },
  async start({ config, clients, clock, log, tracing }) {
    const { batchSize, lanes, leaseSeconds, pollMs } = config;
    const pusher = await createPusher({
      key: config.firebaseCredentials,
      endpoint: config.pushEndpoint,
      sendTimeoutMs: PUSH_TIMEOUT_MS,
      clock,
    });
    const outages = new Outages(clock, log);
    const { notification } = clients;
    const options = { notification, pusher, outages, batchSize, leaseSeconds, clock, log, tracing };
    const { jobs, ring } = createLanes(lanes, pollMs, options);
    return {
      implementations: [],
      jobs,
      gauges: outages.gauges(),
      watchers: [{ source: "notification", types: [NotificationCreatedSchema], onEvents: ring }],
      async stop() {
        await pusher[Symbol.asyncDispose]();
      },
    };
  },
});
