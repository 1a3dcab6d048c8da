/**
 * What organization publishes. All about one organization has one subject, so the version of an event is its revision.
 */
import {
  BranchChangedSchema,
  MemberChangedSchema,
  MemberInvitedSchema,
  MemberRemovedSchema,
  OrganizationChangedSchema,
  OrganizationCreatedSchema,
} from "../../../gen/concierge/organization/v1/organization_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";
import { type Branch, packBranch } from "./branches.ts";
import type { Organization } from "./changes.ts";
import type { Invitation } from "./invitations.ts";
import { type Membership, packRole } from "./memberships.ts";
import { packOrganization } from "./organizations.ts";

/** The subject of an organization; its id as the database writes it. */
export function subjectOf(organizationId: string): string {
  return `organization/${organizationId}`;
}

export function organizationCreated(organization: Organization): OutboxEvent {
  const fact = { organization: packOrganization(organization) };
  return event(OrganizationCreatedSchema, subjectOf(organization.id), fact);
}

export function organizationChanged(organization: Organization): OutboxEvent {
  const fact = { organization: packOrganization(organization) };
  return event(OrganizationChangedSchema, subjectOf(organization.id), fact);
}

export function memberChanged({ organizationId, userId, role }: Membership): OutboxEvent {
  return event(MemberChangedSchema, subjectOf(organizationId), { organizationId, userId, role: packRole(role) });
}

export function memberRemoved({ organizationId, userId }: Membership, membershipId: string): OutboxEvent {
  return event(MemberRemovedSchema, subjectOf(organizationId), { organizationId, userId, membershipId });
}

export function memberInvited({ id: invitationId, email }: Invitation, { id, name }: Organization): OutboxEvent {
  const fact = { invitationId, organizationId: id, organizationName: name, email };
  return event(MemberInvitedSchema, subjectOf(id), fact);
}

export function branchChanged(branch: Branch): OutboxEvent {
  return event(BranchChangedSchema, subjectOf(branch.organizationId), { branch: packBranch(branch) });
}
