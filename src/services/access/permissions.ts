/**
 * Permissions: what people can be allowed to do. Those of Concierge's own methods are constants here; the product adds its own, which
 * then can be given and are never deleted.
 */
import { asc, count, inArray } from "drizzle-orm";
import type { Permission } from "../../../gen/permissions.ts";
import type { Db, Tx } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope } from "../../rpc/call.ts";
import { type Changed, change } from "./changes.ts";
import { permissionCreated } from "./events.ts";
import { permissions } from "./schema.ts";

/** Something that a person may be allowed to do. */
export interface DescribedPermission {
  name: string;
  description: string;
}

const MAX_PERMISSIONS = 1_000;

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

/** Whether a permission comes with every membership. */
export function isOfEveryMember(name: string): boolean {
  return OF_MEMBERS.some((own) => own === name);
}

/** What comes with a membership: owners and admins also hold every permission of the product (`others`). */
export function permissionsOfMember(role: "owner" | "admin" | "member", others: readonly string[]): string[] {
  switch (role) {
    case "owner":
      return allPermissions(others);
    case "admin":
      return [...OWN_NAMES.filter((name) => !OF_OWNERS_ONLY.includes(name)), ...others];
    case "member":
      return [...OF_MEMBERS];
  }
}

/** Every permission there is, given those of the product. */
export function allPermissions(others: readonly string[]): string[] {
  return [...OWN_NAMES, ...others];
}

/** Every permission, by name in the order of code units. */
export async function listPermissions(db: Db): Promise<DescribedPermission[]> {
  const others = await db.select({ name: permissions.name, description: permissions.description }).from(permissions);
  const own = OWN_NAMES.map((name) => ({ name, description: OWN_PERMISSIONS[name] }));
  return [...own, ...others].sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** The names of the product's own permissions. */
export async function productPermissions(db: Db): Promise<string[]> {
  const others = await db.select({ name: permissions.name }).from(permissions).orderBy(asc(permissions.name));
  return others.map(({ name }) => name);
}

/** Adds a permission of the product. ALREADY_EXISTS / PERMISSION_EXISTS, FAILED_PRECONDITION / TOO_MANY_PERMISSIONS. */
export async function createPermission(
  db: Db,
  scope: CallScope,
  { name, description }: DescribedPermission,
): Promise<Changed<DescribedPermission>> {
  return change(db, scope, "", async (tx) => {
    const made = isOwn(name)
      ? []
      : await tx.insert(permissions).values({ name, description }).onConflictDoNothing().returning();
    if (made.length === 0) {
      throw fail(Code.AlreadyExists, "PERMISSION_EXISTS", "there is a permission with this name already");
    }
    const [stored] = await tx.select({ count: count() }).from(permissions);
    if (stored!.count > MAX_PERMISSIONS) {
      throw fail(Code.FailedPrecondition, "TOO_MANY_PERMISSIONS", "there are as many permissions as there may be");
    }
    return { result: { name, description }, events: [permissionCreated(name)] };
  });
}

/** INVALID_ARGUMENT / UNKNOWN_PERMISSION unless all of these exist. */
export async function requireKnown(tx: Tx, names: readonly string[]): Promise<void> {
  const others = names.filter((name) => !isOwn(name));
  if (others.length === 0) return;
  const [known] = await tx.select({ count: count() }).from(permissions).where(inArray(permissions.name, others));
  if (known!.count === new Set(others).size) return;
  throw fail(Code.InvalidArgument, "UNKNOWN_PERMISSION", "there is no such permission");
}

function isOwn(name: string): boolean {
  return Object.hasOwn(OWN_PERMISSIONS, name);
}
