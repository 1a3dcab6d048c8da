/**
 * The roles that every installation has. They come with an account or a membership, or are given by admins.ts; nobody can make, change,
 * assign or take them otherwise, so what they mean is decided here alone.
 */
import { Code, fail } from "../../errors.ts";
import type { Kind } from "./accounts.ts";

/** The role that comes with every account. */
export const ACCOUNT_ROLE = "user";
/** The role that comes with an artist's account. */
export const ARTIST_ROLE = "artist";
/** The role of those who administer the installation: see admins.ts. Those who administer an organization have one of this name there. */
export const ADMIN_ROLE = "admin";
/** What comes with a membership is decided by organization. */
export const MEMBER_ROLES = ["admin", "member", "owner"] as const;

const NAMES: readonly string[] = [ACCOUNT_ROLE, ARTIST_ROLE, ADMIN_ROLE, ...MEMBER_ROLES];

/** The roles that come with an account of this kind. */
export function rolesOfKind(kind: Kind): string[] {
  switch (kind) {
    case "user":
      return [ACCOUNT_ROLE];
    case "artist":
      return [ACCOUNT_ROLE, ARTIST_ROLE];
  }
}

/** Whether a role of this name cannot be made. */
export function isBuiltIn(name: string): boolean {
  return NAMES.includes(name);
}

/** INVALID_ARGUMENT / ROLE_BUILT_IN. */
export function refuseBuiltIn(name: string): void {
  if (!isBuiltIn(name)) return;
  throw fail(Code.InvalidArgument, "ROLE_BUILT_IN", "a built-in role cannot be changed, given or taken");
}
