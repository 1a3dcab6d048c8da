/** access's RPCs: unpack, call one domain function, pack. */
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext } from "@connectrpc/connect";
import {
  AccessInternalService,
  AccessService,
  AccessServiceUpdateRoleRequestSchema,
  PermissionDenial,
} from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { during } from "../../db/database.ts";
import { LARGE_PAGE_SIZE } from "../../page-tokens.ts";
import { type Revisions, toConsistencyToken } from "../../rights/revisions.ts";
import { packRights } from "../../rights/rights.ts";
import { memberOf, scopeOf, userOf } from "../../rpc/call.ts";
import { changesOf } from "../../rpc/field-mask.ts";
import { implement } from "../../service.ts";
import { bootstrapAdmin, grantAdmin, revokeAdmin } from "./admins.ts";
import {
  type Assignment,
  give,
  listAssignments,
  rolesOfUser,
  rolesOfUsers,
  type StoredAssignment,
  take,
  type What,
} from "./assignments.ts";
import { type Check, checkPermission, checkPermissions, getFreshRights, getOwnRights } from "./checks.ts";
import { type Denial, type Explanation, explainPermission } from "./explanations.ts";
import { listHolders } from "./holders.ts";
import { createPermission, listPermissions } from "./permissions.ts";
import { listRoleHolders } from "./role-holders.ts";
import { createRole, deleteRole, listPlatformRoles, listRoles, updateRole } from "./roles.ts";
import type { AccessContext } from "./service.ts";

export function accessHandlers(access: AccessContext) {
  return [publicHandlers(access), internalHandlers(access)];
}

function publicHandlers(access: AccessContext) {
  const { db } = access;
  return implement(AccessService, {
    async getMyRoles(_, context) {
      return { roles: await rolesOfUser(access, scopeOf(context), userOf(context).userId) };
    },
    async getMyPermissions(_, context) {
      const { organizationId, rights } = await getOwnRights(access, scopeOf(context), userOf(context));
      return { organizationId, rights: packRights(rights) };
    },
    async listPermissions(_, { signal }) {
      return { permissions: await listPermissions(during(db, signal)) };
    },
    async listRoles(_, context) {
      return { roles: await listRoles(db, scopeOf(context), memberOf(context).organizationId) };
    },
    async createRole(details, context) {
      const made = await createRole(access, scopeOf(context), memberOf(context).organizationId, details);
      return { role: made.result, ...tokenOf(made.revisions) };
    },
    async updateRole(request, context) {
      const changes = changesOf(AccessServiceUpdateRoleRequestSchema, request, ["name"]);
      const { organizationId } = memberOf(context);
      const made = await updateRole(access, scopeOf(context), organizationId, { ...changes, name: request.name });
      return { role: made.result, ...tokenOf(made.revisions) };
    },
    async deleteRole({ name }, context) {
      const { revisions } = await deleteRole(access, scopeOf(context), memberOf(context).organizationId, name);
      return tokenOf(revisions);
    },
    async listAssignments({ userId, ...page }, context) {
      const { organizationId } = memberOf(context);
      const which = { ...page, userId: userId.toLowerCase() };
      const { assignments, nextPageToken } = await listAssignments(access, scopeOf(context), organizationId, which);
      return { assignments: assignments.map(packAssignment), nextPageToken };
    },
    async assignRole({ role, ...request }, context) {
      return tokenOf(await give(access, scopeOf(context), ownAssignment(context, request, { role })));
    },
    async unassignRole({ role, ...request }, context) {
      return tokenOf(await take(access, scopeOf(context), ownAssignment(context, request, { role })));
    },
    async grantPermission({ permission, ...request }, context) {
      return tokenOf(await give(access, scopeOf(context), ownAssignment(context, request, { permission })));
    },
    async revokePermission({ permission, ...request }, context) {
      return tokenOf(await take(access, scopeOf(context), ownAssignment(context, request, { permission })));
    },
    async explainPermission(request, context) {
      const check = checkOf({ ...request, organizationId: memberOf(context).organizationId });
      return packExplanation(await explainPermission(access, scopeOf(context), check));
    },
  });
}

function internalHandlers(access: AccessContext) {
  const { db } = access;
  return implement(AccessInternalService, {
    async getUserRoles({ userId }, context) {
      return { roles: await rolesOfUser(access, scopeOf(context), userId) };
    },
    async batchGetUserRoles({ userIds }, context) {
      return { users: await rolesOfUsers(access, scopeOf(context), userIds) };
    },
    async getUserPermissions({ userId, organizationId }, context) {
      const subject = { userId: userId.toLowerCase(), organizationId: organizationId.toLowerCase() };
      const { rights, ageMs } = await getFreshRights(access, scopeOf(context), subject);
      return { rights: packRights(rights), ...tokenOf(rights.revisions), age: durationFromMs(Math.ceil(ageMs)) };
    },
    async checkPermission(request, context) {
      return { allowed: await checkPermission(access, scopeOf(context), checkOf(request)) };
    },
    async batchCheckPermissions({ checks }, context) {
      return { results: await checkPermissions(access, scopeOf(context), checks.map(checkOf)) };
    },
    async explainPermission(request, context) {
      return packExplanation(await explainPermission(access, scopeOf(context), checkOf(request)));
    },
    async listUsersWithPermission({ pageSize, pageToken, ...request }, context) {
      const { userId: _, ...question } = checkOf({ ...request, userId: "" });
      return listHolders(access, scopeOf(context), { ...question, pageSize, pageToken });
    },
    async listUsersWithRole({ organizationId, ...question }, context) {
      const where = { organizationId: organizationId.toLowerCase(), maxPageSize: LARGE_PAGE_SIZE };
      return listRoleHolders(access, scopeOf(context), { ...question, ...where });
    },
    async createPermission(request, context) {
      const { result, revisions } = await createPermission(db, scopeOf(context), request);
      return { permission: result, ...tokenOf(revisions) };
    },
    async listRoles(_, { signal }) {
      return { roles: await listPlatformRoles(during(db, signal)) };
    },
    async createRole(details, context) {
      const { result, revisions } = await createRole(access, scopeOf(context), "", details);
      return { role: result, ...tokenOf(revisions) };
    },
    async assignRole({ role, ...request }, context) {
      return tokenOf(await give(access, scopeOf(context), assignmentOf(request, { role })));
    },
    async unassignRole({ role, ...request }, context) {
      return tokenOf(await take(access, scopeOf(context), assignmentOf(request, { role })));
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
  });
}

type Where = Omit<Assignment, "what">;

function assignmentOf({ userId, organizationId, branchId }: Where, what: What): Assignment {
  const where = { organizationId: organizationId.toLowerCase(), branchId: branchId.toLowerCase() };
  return { userId: userId.toLowerCase(), ...where, what };
}

/** In the organization in which the caller acts. */
function ownAssignment(context: HandlerContext, where: Omit<Where, "organizationId">, what: What): Assignment {
  return assignmentOf({ ...where, organizationId: memberOf(context).organizationId }, what);
}

function checkOf({ userId, organizationId, branchId, permission }: Check): Check {
  const where = { organizationId: organizationId.toLowerCase(), branchId: branchId.toLowerCase() };
  return { userId: userId.toLowerCase(), ...where, permission };
}

function tokenOf(revisions: Revisions): { consistencyToken: string } {
  return { consistencyToken: toConsistencyToken(revisions) };
}

function packAssignment({ userId, branchId, what, assignedBy, assignedAt }: StoredAssignment) {
  const packed =
    "role" in what
      ? ({ case: "role", value: what.role } as const)
      : ({ case: "permission", value: what.permission } as const);
  return { userId, branchId, what: packed, assignedBy, assignedAt: timestampFromDate(assignedAt) };
}

const DENIALS: Record<Denial, PermissionDenial> = {
  not_a_member: PermissionDenial.NOT_A_MEMBER,
  suspended: PermissionDenial.SUSPENDED,
  unknown_permission: PermissionDenial.UNKNOWN_PERMISSION,
  no_branch: PermissionDenial.NO_BRANCH,
  other_branch: PermissionDenial.OTHER_BRANCH,
  not_granted: PermissionDenial.NOT_GRANTED,
};

function packExplanation(explanation: Explanation) {
  if (!explanation.allowed) return { allowed: false, denial: DENIALS[explanation.denial] };
  const sources = explanation.sources.map(({ assignedAt, ...source }) => {
    return { ...source, assignedAt: assignedAt && timestampFromDate(assignedAt) };
  });
  return { allowed: true, sources };
}
