/** What the client answers: the words of seed contracts beside our own, so that code which was written for either finds its fields. */
import {
  type Organization as OrganizationMessage,
  OrganizationStatus,
} from "../../gen/concierge/organization/v1/organization_pb.ts";
import { Code, fail } from "../errors.ts";
import { toConsistencyToken } from "../rights/revisions.ts";
import type { Rights } from "../rights/rights.ts";
import type { AccessClaims } from "../token/access-token.ts";

/** Who sent a token. */
export type Principal = Pick<AccessClaims, "userId" | "sessionId" | "organizationId" | "authenticatedAt" | "expiresAt">;

/** What somebody may do in one branch beside what is held in the whole organization. */
export interface LocalPermissions {
  /** UUID of the branch. */
  localId: string;
  /** In alphabetical order. */
  permissions: string[];
}

/** What a member may do in an organization. */
export interface UserPermissions {
  /** Held in the whole organization, in alphabetical order. */
  permissions: string[];
  /** UUIDs of the open branches in which the member may act. */
  locals: string[];
  /** What is held in single branches beside `permissions`. */
  localPermissions: LocalPermissions[];
  /** What was known, to be passed on to others who decide. */
  consistencyToken: string;
}

/** Who sent a token, and what that person may do in the organization that it names. */
export interface VerifiedToken extends UserPermissions {
  userId: string;
  sessionId: string;
  /** Empty if the token names none, if the person is no member any more, or if it is suspended. */
  organizationId: string;
  /** Empty while auth cannot be asked, as the names are. */
  email: string;
  firstName: string;
  lastName: string;
  /** Whether the account may be used; if not, nobody may do anything by it. */
  active: boolean;
  /** The same as `active`. */
  isActive: boolean;
  /** When the token expires, in seconds since 1970. */
  expiresAt: number;
}

export interface Organization {
  /** UUID. */
  id: string;
  name: string;
  /** Name of what was bought. */
  plan: string;
  status: "active" | "suspended";
  /** Whether `status` is "active". */
  isActive: boolean;
  /** Names of the modules that are switched on, in alphabetical order. */
  modules: string[];
}

export function principalOf(claims: AccessClaims): Principal {
  const { userId, sessionId, organizationId, authenticatedAt, expiresAt } = claims;
  return { userId, sessionId, organizationId, authenticatedAt, expiresAt };
}

/** Nothing for a member of a suspended organization, and for nobody. */
export function permissionsOf(rights: Rights | undefined): UserPermissions {
  if (rights?.standing !== "active") {
    return { permissions: [], locals: [], localPermissions: [], consistencyToken: tokenOf(rights) };
  }
  const localPermissions: LocalPermissions[] = [];
  for (const [localId, held] of rights.branches) {
    if (held.size > 0) localPermissions.push({ localId, permissions: [...held] });
  }
  return {
    permissions: [...rights.permissions],
    locals: [...rights.branches.keys()],
    localPermissions,
    consistencyToken: tokenOf(rights),
  };
}

function tokenOf(rights: Rights | undefined): string {
  return rights ? toConsistencyToken(rights.revisions) : "";
}

/** NOT_FOUND / ORGANIZATION_NOT_FOUND for one that is deleted. */
export function organizationOf(message: OrganizationMessage | undefined): Organization {
  if (!message) throw organizationNotFound();
  const { organizationId: id, name, plan, modulesEnabled: modules } = message;
  const status = statusOf(message.status);
  return { id, name, plan, status, isActive: status === "active", modules };
}

function statusOf(status: OrganizationStatus): Organization["status"] {
  if (status === OrganizationStatus.ACTIVE) return "active";
  if (status === OrganizationStatus.SUSPENDED) return "suspended";
  throw organizationNotFound();
}

export function organizationNotFound(cause?: unknown) {
  return fail(Code.NotFound, "ORGANIZATION_NOT_FOUND", "there is no such organization", { cause });
}

export function userNotFound() {
  return fail(Code.NotFound, "USER_NOT_FOUND", "the organization has no such member");
}
