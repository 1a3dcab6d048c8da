/** organization's RPCs: unpack, call one domain function, pack. */
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { toConsistencyToken } from "../../rights/revisions.ts";
import { scopeOf, userOf } from "../../rpc/call.ts";
import { implement } from "../../service.ts";
import { getStanding, packRole } from "./memberships.ts";
import { createOrganization, packOrganization, packStatus } from "./organizations.ts";
import type { OrganizationContext } from "./service.ts";

export function organizationHandlers(organization: OrganizationContext) {
  const { db } = organization;
  return [
    implement(OrganizationService, {
      async createOrganization(request, context) {
        const made = await createOrganization(organization, scopeOf(context), userOf(context), request);
        const consistencyToken = toConsistencyToken(made.revisions);
        return { organization: packOrganization(made.organization), consistencyToken };
      },
    }),
    implement(OrganizationInternalService, {
      async getMembership(request, context) {
        const { role, status, ...standing } = await getStanding(db, scopeOf(context), request);
        return { ...standing, role: role ? packRole(role) : undefined, status: packStatus(status) };
      },
    }),
  ];
}
