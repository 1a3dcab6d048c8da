/**
 * Roles: which ones there are. Every installation has the built-in ones, which are constants here and nobody can
 * change; the others were made by operators and backends and are never deleted.
 */
import { eq, sql } from "drizzle-orm";
import { type Db, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import type { Kind } from "./accounts.ts";
import { roleCreated } from "./events.ts";
import { roles } from "./schema.ts";

export interface Role {
  name: string;
  description: string;
  builtIn: boolean;
}

/** The role that comes with every account. */
const ACCOUNT_ROLE = "user";
/** The role that comes with an artist's account. */
const ARTIST_ROLE = "artist";
/** The only built-in role that is given: see admins.ts. */
export const ADMIN_ROLE = "admin";

/** By name. What they mean is decided elsewhere, so nobody who may assign roles can give or take these. */
const BUILT_IN_ROLES: readonly Role[] = [
  { name: ADMIN_ROLE, description: "Administers the installation", builtIn: true },
  { name: ARTIST_ROLE, description: "Has an artist's profile", builtIn: true },
  { name: ACCOUNT_ROLE, description: "Has an account", builtIn: true },
];

/** Every role, built-in ones first, then by name in the order of code units, whatever the database's collation. */
export async function listRoles(db: Db): Promise<Role[]> {
  const made = await db
    .select({ name: roles.name, description: roles.description })
    .from(roles)
    .orderBy(sql`${roles.name} collate "C"`);
  return [...BUILT_IN_ROLES, ...made.map((role) => ({ ...role, builtIn: false }))];
}

/** Makes a role. ALREADY_EXISTS / ROLE_EXISTS for a name that is taken, by a built-in role too. */
export async function createRole(
  db: Db,
  { signal }: CallScope,
  { name, description }: { name: string; description: string },
): Promise<Role> {
  if (isBuiltIn(name)) throw nameTaken();
  return transaction(
    db,
    async (tx) => {
      const [made] = await tx.insert(roles).values({ name, description }).onConflictDoNothing().returning();
      if (!made) throw nameTaken();
      await emit(tx, [roleCreated(made.name)]);
      return { name: made.name, description: made.description, builtIn: false };
    },
    { signal },
  );
}

/** Whether somebody made a role with this name. */
export async function isMadeRole(db: Db, name: string): Promise<boolean> {
  const [made] = await db.select({ name: roles.name }).from(roles).where(eq(roles.name, name));
  return made !== undefined;
}

/** The roles that come with an account of this kind. */
export function rolesOfKind(kind: Kind): string[] {
  switch (kind) {
    case "user":
      return [ACCOUNT_ROLE];
    case "artist":
      return [ACCOUNT_ROLE, ARTIST_ROLE];
  }
}

/** True for the roles that CreateRole, AssignRole and UnassignRole leave alone. */
export function isBuiltIn(name: string): boolean {
  return BUILT_IN_ROLES.some((role) => role.name === name);
}

function nameTaken() {
  return fail(Code.AlreadyExists, "ROLE_EXISTS", "there is a role with this name already");
}
