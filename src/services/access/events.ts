/** What access publishes. All about one organization, or the platform, has one subject, so the version of an event is its revision. */
import {
  RoleAssignedSchema,
  RoleChangedSchema,
  RoleUnassignedSchema,
} from "../../../gen/concierge/access/v1/access_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";

/** The subject of an organization; that of the platform, which is none, for the empty id. */
export function subjectOf(organizationId: string): string {
  return organizationId === "" ? "platform" : `organization/${organizationId}`;
}

export function roleCreated(name: string): OutboxEvent {
  return event(RoleChangedSchema, subjectOf(""), { name });
}

/** `userId` as the database writes it. */
export function roleAssigned(assignment: { userId: string; role: string }): OutboxEvent {
  return event(RoleAssignedSchema, subjectOf(""), assignment);
}

/** `userId` as the database writes it. */
export function roleUnassigned(assignment: { userId: string; role: string }): OutboxEvent {
  return event(RoleUnassignedSchema, subjectOf(""), assignment);
}
