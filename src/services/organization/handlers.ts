/** organization's RPCs: unpack, call one domain function, pack. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
  UpdateOrganizationRequestSchema,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { LARGE_PAGE_SIZE } from "../../page-tokens.ts";
import { memberOf, scopeOf, userOf } from "../../rpc/call.ts";
import { changesOf } from "../../rpc/field-mask.ts";
import { requireRecentLogin } from "../../rpc/recent-login.ts";
import { implement } from "../../service.ts";
import { releaseUser } from "./accounts.ts";
import { closeBranch, createBranch, listBranches, packBranch, renameBranch } from "./branches.ts";
import type { Stored } from "./changes.ts";
import { type Invitation, inviteMember, listInvitations, revokeInvitation } from "./invitations.ts";
import {
  filterMembers,
  type ListedMember,
  listMembers,
  listOrganizationsOf,
  type OwnOrganization,
} from "./member-lists.ts";
import {
  changeMemberRole,
  getStanding,
  leaveOrganization,
  packRole,
  type Role,
  removeMember,
  transferOwnership,
  unpackRole,
} from "./memberships.ts";
import {
  createOrganization,
  deleteOrganization,
  getOrganization,
  packOrganization,
  packStatus,
  setPlan,
  setStatus,
  updateOrganization,
} from "./organizations.ts";
import { acceptInvitation, declineInvitation, listOwnInvitations, type OwnInvitation } from "./own-invitations.ts";
import { setOwner } from "./owners.ts";
import type { OrganizationContext } from "./service.ts";

export function organizationHandlers(context: OrganizationContext) {
  return [
    implement(OrganizationService, {
      ...personHandlers(context),
      ...settingsHandlers(context),
      ...memberHandlers(context),
      ...branchHandlers(context),
    }),
    internalHandlers(context),
  ];
}

type PublicHandlers = Partial<ServiceImpl<typeof OrganizationService>>;

/** What people do wherever they are members, and are invited to. */
function personHandlers(organization: OrganizationContext) {
  const { db } = organization;
  return {
    async createOrganization(request, context) {
      const made = await createOrganization(db, scopeOf(context), userOf(context), request);
      return { organization: packOrganization(made.result), consistencyToken: made.consistencyToken };
    },
    async listMyOrganizations(request, context) {
      const { userId } = userOf(context);
      return packOrganizations(await listOrganizationsOf(db, scopeOf(context), { ...request, userId }));
    },
    async listMyInvitations(_, context) {
      const own = await listOwnInvitations(organization, scopeOf(context), userOf(context));
      return { invitations: own.map(packOwnInvitation) };
    },
    async acceptInvitation({ invitationId }, context) {
      const joined = await acceptInvitation(organization, scopeOf(context), userOf(context), invitationId);
      return { organization: packOrganization(joined.result), consistencyToken: joined.consistencyToken };
    },
    async declineInvitation({ invitationId }, context) {
      await declineInvitation(organization, scopeOf(context), userOf(context), invitationId);
      return {};
    },
    async leaveOrganization({ organizationId }, context) {
      return tokenOf(await leaveOrganization(db, scopeOf(context), userOf(context), organizationId));
    },
  } satisfies PublicHandlers;
}

function settingsHandlers({ db, clock }: OrganizationContext) {
  return {
    async getMyOrganization(_, context) {
      const organization = await getOrganization(db, scopeOf(context), memberOf(context).organizationId);
      return { organization: packOrganization(organization), settings: organization.settings };
    },
    async updateOrganization(request, context) {
      const changes = changesOf(UpdateOrganizationRequestSchema, request);
      const stored = await updateOrganization(db, scopeOf(context), memberOf(context), changes);
      const { settings } = stored.result;
      return { organization: packOrganization(stored.result), settings, consistencyToken: stored.consistencyToken };
    },
    async deleteOrganization(_, context) {
      requireRecentLogin(context, clock);
      return tokenOf(await deleteOrganization(db, scopeOf(context), memberOf(context)));
    },
    async transferOwnership({ userId }, context) {
      requireRecentLogin(context, clock);
      return tokenOf(await transferOwnership(db, scopeOf(context), memberOf(context), userId));
    },
  } satisfies PublicHandlers;
}

function memberHandlers({ db, clock }: OrganizationContext) {
  return {
    async listMembers(request, context) {
      const { organizationId } = memberOf(context);
      return packMembers(await listMembers(db, scopeOf(context), { ...request, organizationId }));
    },
    async changeMemberRole({ userId, role }, context) {
      const change = { userId, role: requiredRole(role) };
      const requireRecent = () => requireRecentLogin(context, clock);
      return tokenOf(await changeMemberRole(db, scopeOf(context), memberOf(context), change, requireRecent));
    },
    async removeMember({ userId }, context) {
      const requireRecent = () => requireRecentLogin(context, clock);
      return tokenOf(await removeMember(db, scopeOf(context), memberOf(context), userId, requireRecent));
    },
    async inviteMember({ email, role }, context) {
      const asked = { email, role: requiredRole(role) };
      const requireRecent = () => requireRecentLogin(context, clock);
      const invitation = await inviteMember(db, scopeOf(context), memberOf(context), asked, requireRecent);
      return { invitation: packInvitation(invitation) };
    },
    async listInvitations(request, context) {
      const { entries, nextPageToken } = await listInvitations(db, scopeOf(context), memberOf(context), request);
      return { invitations: entries.map(packInvitation), nextPageToken };
    },
    async revokeInvitation({ invitationId }, context) {
      await revokeInvitation(db, scopeOf(context), memberOf(context), invitationId);
      return {};
    },
  } satisfies PublicHandlers;
}

function branchHandlers({ db }: OrganizationContext) {
  return {
    async listBranches(request, context) {
      const { entries, nextPageToken } = await listBranches(db, scopeOf(context), memberOf(context), request);
      return { branches: entries.map(packBranch), nextPageToken };
    },
    async createBranch({ name }, context) {
      const made = await createBranch(db, scopeOf(context), memberOf(context), name);
      return { branch: packBranch(made.result), consistencyToken: made.consistencyToken };
    },
    async renameBranch(request, context) {
      return { branch: packBranch((await renameBranch(db, scopeOf(context), memberOf(context), request)).result) };
    },
    async closeBranch({ branchId }, context) {
      return tokenOf(await closeBranch(db, scopeOf(context), memberOf(context), branchId));
    },
  } satisfies PublicHandlers;
}

function internalHandlers(organization: OrganizationContext) {
  const { db, jobDb } = organization;
  return implement(OrganizationInternalService, {
    async getOrganization({ organizationId }, context) {
      return { organization: packOrganization(await getOrganization(db, scopeOf(context), organizationId)) };
    },
    async getMembership(request, context) {
      const { role, membershipId, status, ...standing } = await getStanding(db, scopeOf(context), request);
      return {
        ...standing,
        ...{ role: role ? packRole(role) : undefined, membershipId: membershipId ?? "" },
        status: packStatus(status),
      };
    },
    async listMemberships({ organizationId, role, ...page }, context) {
      const scope = scopeOf(context);
      await getOrganization(db, scope, organizationId);
      const wanted = { ...page, organizationId, role: unpackRole(role), maxPageSize: LARGE_PAGE_SIZE };
      return packMembers(await listMembers(db, scope, wanted));
    },
    async filterMembers(request, context) {
      const { status, ...found } = await filterMembers(db, scopeOf(context), request);
      return { ...found, status: packStatus(status) };
    },
    async listUserOrganizations(request, context) {
      return packOrganizations(await listOrganizationsOf(db, scopeOf(context), request));
    },
    async releaseUser({ userId }, context) {
      await releaseUser(jobDb, scopeOf(context), userId);
      return {};
    },
    async setPlan(request, context) {
      const { result } = await setPlan(db, scopeOf(context), request);
      return { organization: packOrganization(result) };
    },
    async suspendOrganization({ organizationId }, context) {
      return tokenOf(await setStatus(db, scopeOf(context), { organizationId, status: "suspended" }));
    },
    async setOwner(request, context) {
      return tokenOf(await setOwner(organization, scopeOf(context), request));
    },
    async resumeOrganization({ organizationId }, context) {
      return tokenOf(await setStatus(db, scopeOf(context), { organizationId, status: "active" }));
    },
  });
}

function tokenOf({ consistencyToken }: Stored<void>) {
  return { consistencyToken };
}

/** The contract has refused others. */
function requiredRole(role: MemberRole): Role {
  const required = unpackRole(role);
  if (!required) throw new Error("a role that the contract does not have came through");
  return required;
}

function packMembers({ entries, nextPageToken }: { entries: ListedMember[]; nextPageToken: string }) {
  const members = entries.map(({ userId, role, since }) => {
    return { userId, role: packRole(role), since: timestampFromDate(since) };
  });
  return { members, nextPageToken };
}

function packOrganizations({ entries, nextPageToken }: { entries: OwnOrganization[]; nextPageToken: string }) {
  const organizations = entries.map(({ organization, role }) => {
    return { organization: packOrganization(organization), role: packRole(role) };
  });
  return { organizations, nextPageToken };
}

function packInvitation({ id: invitationId, email, role, invitedBy, createdAt, expiresAt }: Invitation) {
  const times = { createdAt: timestampFromDate(createdAt), expiresAt: timestampFromDate(expiresAt) };
  return { invitationId, email, role: packRole(role), invitedBy, ...times };
}

function packOwnInvitation({ invitation, organizationName }: OwnInvitation) {
  const { id: invitationId, organizationId, role, expiresAt } = invitation;
  return {
    ...{ invitationId, organizationId, organizationName },
    role: packRole(role),
    expiresAt: timestampFromDate(expiresAt),
  };
}
