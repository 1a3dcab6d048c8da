/** Permissions: what people can be allowed to do. Those of Concierge's own methods are constants here. */
import type { Permission } from "../../../gen/permissions.ts";

/** What each of them allows, within one organization. */
export const OWN_PERMISSIONS: Readonly<Record<Permission, string>> = {
  "branches:create": "Make branches",
  "branches:read": "See the branches",
  "branches:update": "Rename and close branches",
  "members:invite": "Invite people, and take invitations back",
  "members:read": "See who is a member",
  "members:remove": "Remove members",
  "members:update": "Change what members are",
  "organization:delete": "Delete the organization",
  "organization:read": "See the organization and its settings",
  "organization:transfer": "Make somebody else the owner",
  "organization:update": "Change name, slug and settings",
  "profiles:read": "See the profiles of members",
  "profiles:update": "Change names and language of members",
  "roles:assign": "Give and take roles and permissions",
  "roles:create": "Make roles",
  "roles:delete": "Delete roles",
  "roles:read": "See roles and who has them",
  "roles:update": "Change roles",
};

const OWN_NAMES = Object.keys(OWN_PERMISSIONS) as Permission[];
const OF_OWNERS_ONLY: readonly Permission[] = ["organization:delete", "organization:transfer"];
const OF_MEMBERS: readonly Permission[] = ["branches:read", "members:read", "organization:read"];

/** What comes with a membership: owners and admins also hold every permission of the product (`others`). */
export function permissionsOfMember(role: "owner" | "admin" | "member", others: readonly string[]): string[] {
  switch (role) {
    case "owner":
      return [...OWN_NAMES, ...others];
    case "admin":
      return [...OWN_NAMES.filter((name) => !OF_OWNERS_ONLY.includes(name)), ...others];
    case "member":
      return [...OF_MEMBERS];
  }
}
