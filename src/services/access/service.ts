/**
 * access: what people may do. Which accounts exist it knows from auth, by following its feed and by asking; what somebody is in an
 * organization it asks that service whenever it decides.
 */
import { file_concierge_access_v1_access_events } from "../../../gen/concierge/access/v1/access_events_pb.ts";
import { AccessInternalService, AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { OrganizationInternalService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { config } from "./config.ts";
import { followers } from "./followers.ts";
import { accessHandlers } from "./handlers.ts";
import { loadRights } from "./rights.ts";

const peers = { auth: AuthInternalService, organization: OrganizationInternalService };

export type AccessContext = ServiceContext<typeof config, typeof peers>;

export const access = defineService({
  name: "access",
  ports: { public: 8082, internal: 50052 },
  config,
  services: [AccessService, AccessInternalService],
  events: file_concierge_access_v1_access_events,
  peers,
  start: (context) => ({
    implementations: accessHandlers(context),
    followers,
    loadRights: (subject, _, signal) => loadRights(context, subject, { signal }),
  }),
});
