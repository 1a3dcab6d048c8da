/**
 * organization: who is a member of which organization, and what organizations consist of. What a member may do is
 * access's to say; that there is always an owner is decided here.
 */
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { file_concierge_organization_v1_organization_events } from "../../../gen/concierge/organization/v1/organization_events_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { config } from "./config.ts";
import { followers } from "./followers.ts";
import { organizationHandlers } from "./handlers.ts";
import { endAllInvitations, sweepInvitations } from "./invitations.ts";
import { sweepPersonCounters } from "./person-counters.ts";

const peers = { auth: AuthInternalService, access: AccessInternalService };

export type OrganizationContext = ServiceContext<typeof config, typeof peers>;

export const organization = defineService({
  name: "organization",
  ports: { public: 8083, internal: 50053 },
  config,
  services: [OrganizationService, OrganizationInternalService],
  events: file_concierge_organization_v1_organization_events,
  peers,
  start: (context) => ({
    implementations: organizationHandlers(context),
    followers,
    jobs: [sweepInvitations(context.jobDb), sweepPersonCounters(context.jobDb)],
  }),
  afterLoss: endAllInvitations,
});
