// Generated from the access options in proto/. Do not edit.

/** Permissions that Concierge's own methods ask for. */
export type Permission =
  | "branches:create"
  | "branches:read"
  | "branches:update"
  | "members:invite"
  | "members:read"
  | "members:remove"
  | "members:update"
  | "organization:delete"
  | "organization:read"
  | "organization:transfer"
  | "organization:update"
  | "profiles:read"
  | "profiles:update"
  | "roles:assign"
  | "roles:create"
  | "roles:delete"
  | "roles:read"
  | "roles:update";
