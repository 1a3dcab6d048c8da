/** What access publishes. All about one organization, or the platform, has one subject, so the version of an event is its revision. */
import {
  PermissionCreatedSchema,
  PermissionGrantedSchema,
  PermissionRevokedSchema,
  RoleAssignedSchema,
  RoleChangedSchema,
  RoleUnassignedSchema,
} from "../../../gen/concierge/access/v1/access_events_pb.ts";
import { event, type OutboxEvent } from "../../feed/emit.ts";
import type { Assignment } from "./assignments.ts";
import type { Role } from "./roles.ts";

/** The subject of an organization; that of the platform, which is none, for the empty id. */
export function subjectOf(organizationId: string): string {
  return organizationId === "" ? "platform" : `organization/${organizationId}`;
}

export function permissionCreated(name: string): OutboxEvent {
  return event(PermissionCreatedSchema, subjectOf(""), { name });
}

export function roleChanged({ organizationId, name, permissions }: Role): OutboxEvent {
  return event(RoleChangedSchema, subjectOf(organizationId), { organizationId, name, permissions });
}

export function roleCreated({ organizationId, name, permissions }: Role): OutboxEvent {
  return event(RoleChangedSchema, subjectOf(organizationId), { organizationId, name, permissions, created: true });
}

export function roleDeleted({ organizationId, name }: Pick<Role, "organizationId" | "name">): OutboxEvent {
  return event(RoleChangedSchema, subjectOf(organizationId), { organizationId, name, deleted: true });
}

/** A role or a permission was given. */
export function given({ what, ...where }: Assignment): OutboxEvent {
  const subject = subjectOf(where.organizationId);
  if ("role" in what) return event(RoleAssignedSchema, subject, { ...where, role: what.role });
  return event(PermissionGrantedSchema, subject, { ...where, permission: what.permission });
}

/** A role or a permission was taken. */
export function taken({ what, ...where }: Assignment): OutboxEvent {
  const subject = subjectOf(where.organizationId);
  if ("role" in what) return event(RoleUnassignedSchema, subject, { ...where, role: what.role });
  return event(PermissionRevokedSchema, subject, { ...where, permission: what.permission });
}
