/** access's RPCs: unpack, call one domain function, pack. */
import { AccessInternalService, AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { during } from "../../db/database.ts";
import { toConsistencyToken } from "../../rights/revisions.ts";
import { packRights } from "../../rights/rights.ts";
import { scopeOf, userOf } from "../../rpc/call.ts";
import { implement } from "../../service.ts";
import { bootstrapAdmin, grantAdmin, revokeAdmin } from "./admins.ts";
import { assignRole, rolesOfUser, rolesOfUsers, unassignRole } from "./assignments.ts";
import { createRole, listRoles } from "./roles.ts";
import type { AccessContext } from "./service.ts";

export function accessHandlers(access: AccessContext) {
  const { db } = access;
  return [
    implement(AccessService, {
      async getMyRoles(_, context) {
        return { roles: await rolesOfUser(access, scopeOf(context), userOf(context).userId) };
      },
    }),
    implement(AccessInternalService, {
      async getUserPermissions({ userId, organizationId }, context) {
        const subject = { userId: userId.toLowerCase(), organizationId: organizationId.toLowerCase() };
        const { rights } = await access.rights.rightsOf(subject, { wanted: scopeOf(context).wanted });
        return { rights: packRights(rights), consistencyToken: toConsistencyToken(rights.revisions) };
      },
      async getUserRoles({ userId }, context) {
        return { roles: await rolesOfUser(access, scopeOf(context), userId) };
      },
      async batchGetUserRoles({ userIds }, context) {
        return { users: await rolesOfUsers(access, scopeOf(context), userIds) };
      },
      async listRoles(_, { signal }) {
        return { roles: await listRoles(during(db, signal)) };
      },
      async createRole(request, context) {
        return { role: await createRole(db, scopeOf(context), request) };
      },
      async assignRole(request, context) {
        await assignRole(access, scopeOf(context), request);
        return {};
      },
      async unassignRole(request, context) {
        await unassignRole(db, scopeOf(context), request);
        return {};
      },
      async bootstrapAdmin({ userId }, context) {
        await bootstrapAdmin(access, scopeOf(context), userId);
        return {};
      },
      async grantAdmin({ userId }, context) {
        await grantAdmin(access, scopeOf(context), userId);
        return {};
      },
      async revokeAdmin({ userId }, context) {
        await revokeAdmin(db, scopeOf(context), userId);
        return {};
      },
    }),
  ];
}
