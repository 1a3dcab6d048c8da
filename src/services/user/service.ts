/**
 * user: profiles of people. What it does not know itself it asks for: accounts of auth, roles of access.
 */

import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { OrganizationInternalService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import {
  ArtistCreatedSchema,
  file_concierge_user_v1_user_events,
  UserCreatedSchema,
} from "../../../gen/concierge/user/v1/user_events_pb.ts";
import { UserInternalService, UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { config } from "./config.ts";
import { followers } from "./followers.ts";
import { userHandlers } from "./handlers.ts";

const peers = {
  auth: AuthInternalService,
  access: AccessInternalService,
  organization: OrganizationInternalService,
};

export type UserContext = ServiceContext<typeof config, typeof peers>;

export const user = defineService({
  name: "user",
  ports: { public: 8084, internal: 50054 },
  config,
  services: [UserService, UserInternalService],
  events: file_concierge_user_v1_user_events,
  topics: [
    [UserCreatedSchema, "user.created"],
    [ArtistCreatedSchema, "artist.created"],
  ],
  peers,
  start: (context) => ({ implementations: userHandlers(context), followers }),
});
