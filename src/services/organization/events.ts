/** What organization publishes. All about one organization has one subject, so the version of an event is its revision. */
import {
  MemberChangedSchema,
  OrganizationChangedSchema,
  OrganizationCreatedSchema,
} from "../../../gen/concierge/organization/v1/organization_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";
import { type Membership, packRole } from "./memberships.ts";
import { type Organization, packOrganization } from "./organizations.ts";

/** The subject of an organization. */
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
