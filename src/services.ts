/** Every service there is, by name. A new one is a line here. */
import type { ServiceDefinition } from "./service.ts";
import { access } from "./services/access/service.ts";
import { auth } from "./services/auth/service.ts";
import { greeter } from "./services/greeter/service.ts";
import { notification } from "./services/notification/service.ts";
import { notificationSender } from "./services/notification-sender/service.ts";
import { organization } from "./services/organization/service.ts";
import { user } from "./services/user/service.ts";

export const services: ServiceDefinition[] = [
  auth,
  access,
  organization,
  user,
  notification,
  notificationSender,
  greeter,
];
