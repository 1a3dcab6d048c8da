/**
 * Roles: which ones there are. Beside the built-in ones there are those of the platform, which operators and backends make, every
 * organization can assign and nobody deletes; the others belong to one organization. An
 * organization's own name goes before one of the platform.
 */
import { and, count, eq, isNull, or, type SQL, sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import type { Db, Tx } from "../../db/database.ts";
import { forOrganization, ofOrganization, type PredicateName } from "../../db/tenants.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope } from "../../rpc/call.ts";
import { authorOf, requireHeld } from "./authors.ts";
import { ACCOUNT_ROLE, ADMIN_ROLE, ARTIST_ROLE, isBuiltIn, MEMBER_ROLES, refuseBuiltIn } from "./built-in-roles.ts";
import { type Changed, change } from "./changes.ts";
import { roleChanged, roleCreated, roleDeleted } from "./events.ts";
import { allPermissions, permissionsOfMember, productPermissions, requireKnown } from "./permissions.ts";
import { roles } from "./schema.ts";
import type { AccessContext } from "./service.ts";

export interface Role {
  name: string;
  description: string;
  builtIn: boolean;
  /** Names, in the order of code units. */
  permissions: string[];
  /** Empty for built-in roles and those of the platform. */
  organizationId: string;
}

/** What one says of a role that is to be made. */
export type RoleDetails = Pick<Role, "name" | "description" | "permissions">;

const MAX_ROLES = 200;

/** Every role of the platform, built-in ones first, then by name in the order of code units, whatever the database's collation. */
export async function listPlatformRoles(db: Db): Promise<Role[]> {
  const everything = allPermissions(await productPermissions(db)).sort();
  return [
    builtIn(ADMIN_ROLE, "Administers the installation", everything),
    builtIn(ARTIST_ROLE, "Has an artist's profile", []),
    builtIn(ACCOUNT_ROLE, "Has an account", []),
    ...(await selectRoles(db, isNull(roles.organizationId))),
  ];
}

/** The roles that count in an organization: built-in ones, those of the platform, then its own, each by name. */
export async function listRoles(db: Db, { signal }: CallScope, organizationId: string): Promise<Role[]> {
  const described = { admin: "Administers the organization", member: "Is a member", owner: "May do everything" };
  return forOrganization(
    db,
    organizationId,
    async (tx) => {
      const products = await productPermissions(tx);
      const builtIns = MEMBER_ROLES.map((role) => {
        return builtIn(role, described[role], permissionsOfMember(role, products).sort());
      });
      const made = await selectRoles(tx, isAssignableIn("roles.list", organizationId));
      const own = new Set(made.filter((role) => role.organizationId !== "").map((role) => role.name));
      return [...builtIns, ...made.filter((role) => role.organizationId !== "" || !own.has(role.name))];
    },
    { signal },
  );
}

/**
 * Makes a role of an organization, or of the platform (""). ALREADY_EXISTS / ROLE_EXISTS for a name that is taken, INVALID_ARGUMENT /
 * UNKNOWN_PERMISSION, PERMISSION_DENIED / PERMISSION_NOT_HELD, FAILED_PRECONDITION / TOO_MANY_ROLES.
 */
export async function createRole(
  access: AccessContext,
  scope: CallScope,
  organizationId: string,
  { name, description, permissions }: RoleDetails,
): Promise<Changed<Role>> {
  if (isBuiltIn(name)) throw nameTaken();
  const author = await authorOf(access, scope, organizationId);
  return change(access.db, scope, organizationId, async (tx) => {
    if (await isTaken(tx, name, organizationId)) throw nameTaken();
    await requireKnown(tx, permissions);
    await requireHeld(tx, author, { organizationId }, permissions);
    const values = { id: uuidv7(), organizationId: organizationId || null, name, description };
    const [row] = await tx
      .insert(roles)
      .values({ ...values, permissions: [...permissions].sort() })
      .returning();
    if (organizationId !== "") await refuseTooMany(tx, organizationId);
    const role = made(row!);
    return { result: role, events: [roleCreated(role)] };
  });
}

/** Changes a role of an organization. NOT_FOUND / ROLE_NOT_FOUND, and as CreateRole. */
export async function updateRole(
  access: AccessContext,
  scope: CallScope,
  organizationId: string,
  { name, ...changes }: { name: string } & Partial<RoleDetails>,
): Promise<Changed<Role>> {
  const author = await authorOf(access, scope, organizationId);
  return change(access.db, scope, organizationId, async (tx) => {
    const before = await requireOwnRole(tx, organizationId, name);
    const permissions = [...(changes.permissions ?? before.permissions)].sort();
    await requireKnown(tx, permissions);
    await requireHeld(tx, author, { organizationId }, [...before.permissions, ...permissions]);
    const description = changes.description ?? before.description;
    const isRole = and(ofOrganization("roles.update", roles.organizationId, organizationId), eq(roles.name, name));
    await tx.update(roles).set({ description, permissions }).where(isRole);
    const role = { ...before, description, permissions };
    return { result: role, events: [roleChanged(role)] };
  });
}

/** Deletes a role of an organization with all of its assignments. NOT_FOUND / ROLE_NOT_FOUND, and as CreateRole. */
export async function deleteRole(
  access: AccessContext,
  scope: CallScope,
  organizationId: string,
  name: string,
): Promise<Changed<void>> {
  const author = await authorOf(access, scope, organizationId);
  return change(access.db, scope, organizationId, async (tx) => {
    const role = await requireOwnRole(tx, organizationId, name);
    await requireHeld(tx, author, { organizationId }, role.permissions);
    const isRole = and(ofOrganization("roles.delete", roles.organizationId, organizationId), eq(roles.name, name));
    await tx.delete(roles).where(isRole);
    return { result: undefined, events: [roleDeleted(role)] };
  });
}

/** The made role that can be assigned under this name in an organization, or on the platform (""); with its id. */
export async function findRole(
  tx: Tx,
  organizationId: string,
  name: string,
): Promise<Pick<typeof roles.$inferSelect, "id" | "organizationId" | "permissions"> | undefined> {
  const [found] = await tx
    .select({ id: roles.id, organizationId: roles.organizationId, permissions: roles.permissions })
    .from(roles)
    .where(and(isAssignableIn("roles.find", organizationId), eq(roles.name, name)))
    // Nulls, which are the platform's, come last.
    .orderBy(roles.organizationId)
    .limit(1);
  return found;
}

export function roleNotFound() {
  return fail(Code.NotFound, "ROLE_NOT_FOUND", "there is no such role");
}

async function requireOwnRole(tx: Tx, organizationId: string, name: string): Promise<Role> {
  refuseBuiltIn(name);
  const isOwn = ofOrganization("roles.own", roles.organizationId, organizationId);
  const [role] = await selectRoles(tx, and(isOwn, eq(roles.name, name)));
  if (!role) throw roleNotFound();
  return role;
}

/** Those of the platform first, then by name in the order of code units. */
async function selectRoles(db: Db | Tx, which: SQL | undefined): Promise<Role[]> {
  const order = [sql`${roles.organizationId} is not null`, sql`${roles.name} collate "C"`];
  const rows = await db
    .select()
    .from(roles)
    .where(which)
    .orderBy(...order);
  return rows.map(made);
}

function isAssignableIn(query: PredicateName, organizationId: string): SQL | undefined {
  const ofPlatform = isNull(roles.organizationId);
  return organizationId === ""
    ? ofPlatform
    : or(ofPlatform, ofOrganization(query, roles.organizationId, organizationId));
}

/** Whether a name has a meaning there. A role of the platform may be called as one of some organization is, which keeps its meaning. */
async function isTaken(tx: Tx, name: string, organizationId: string): Promise<boolean> {
  const where = isAssignableIn("roles.taken", organizationId);
  const [found] = await tx
    .select({ id: roles.id })
    .from(roles)
    .where(and(eq(roles.name, name), where))
    .limit(1);
  return found !== undefined;
}

async function refuseTooMany(tx: Tx, organizationId: string): Promise<void> {
  const isOwn = ofOrganization("roles.count", roles.organizationId, organizationId);
  const [own] = await tx.select({ count: count() }).from(roles).where(isOwn);
  if (own!.count <= MAX_ROLES) return;
  throw fail(Code.FailedPrecondition, "TOO_MANY_ROLES", "the organization has as many roles as it may have");
}

function made({ name, description, permissions, organizationId }: typeof roles.$inferSelect): Role {
  return { name, description, builtIn: false, permissions, organizationId: organizationId ?? "" };
}

function builtIn(name: string, description: string, permissions: string[]): Role {
  return { name, description, builtIn: true, permissions, organizationId: "" };
}

function nameTaken() {
  return fail(Code.AlreadyExists, "ROLE_EXISTS", "there is a role with this name already");
}
