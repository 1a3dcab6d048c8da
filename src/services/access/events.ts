/** What access publishes. All about one person's roles has one subject, so it is read in the order it happened. */
import {
  RoleAssignedSchema,
  RoleCreatedSchema,
  RoleUnassignedSchema,
} from "../../../gen/concierge/access/v1/access_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";

export function roleCreated(name: string): OutboxEvent {
  return event(RoleCreatedSchema, `role/${name}`, { name });
}

/** `userId` as the database writes it: one person is one subject, however a request spells the UUID. */
export function roleAssigned(assignment: { userId: string; role: string }): OutboxEvent {
  return event(RoleAssignedSchema, `user/${assignment.userId}`, assignment);
}

/** `userId` as the database writes it. */
export function roleUnassigned(assignment: { userId: string; role: string }): OutboxEvent {
  return event(RoleUnassignedSchema, `user/${assignment.userId}`, assignment);
}
