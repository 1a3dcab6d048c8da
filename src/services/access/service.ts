/**
 * access: roles, and who has them. It does not know which accounts exist; it asks auth.
 */
import { AccessInternalService, AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { config } from "./config.ts";
import { accessHandlers } from "./handlers.ts";

const peers = { auth: AuthInternalService };

export type AccessContext = ServiceContext<typeof config, typeof peers>;

export const access = defineService({
  name: "access",
  ports: { public: 8082, internal: 50052 },
  config,
  services: [AccessService, AccessInternalService],
  peers,
  start: (context) => ({ implementations: accessHandlers(context) }),
});
