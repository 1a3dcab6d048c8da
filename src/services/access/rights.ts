/**
 * Rights, decided here and nowhere else: what somebody's membership, roles and permissions give in one organization, or on the platform.
 * What the person is to the organization is asked of organization itself, so nothing here can be older than it is there; what was given
 * is read in one statement together with the revisions that it is of.
 */
import type { CallOptions } from "@connectrpc/connect";
import { isNull, type SQL, sql } from "drizzle-orm";
import { type Db, during, type Tx } from "../../db/database.ts";
import { forOrganization, ofOrganization } from "../../db/tenants.ts";
import { mergeRevisions, type Revisions, revision } from "../../rights/revisions.ts";
import { branchesOf, noRights, type Rights, type Subject, setOf } from "../../rights/rights.ts";
import { type Kind, requireAccount } from "./accounts.ts";
import { ADMIN_ROLE, rolesOfKind } from "./built-in-roles.ts";
import { subjectOf } from "./events.ts";
import { askMembership, type Membership } from "./memberships.ts";
import { allPermissions, permissionsOfMember } from "./permissions.ts";
import { admins, assignments, permissions, roles } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** A role or a permission that somebody was given. */
export interface Gift {
  /** Name of the role; null for one permission without a role. */
  role: string | null;
  permissions: string[];
  /** The only branch in which it counts; null for all. */
  branchId: string | null;
  /** For which it counts; null on the platform. */
  membershipId: string | null;
  assignedBy: string;
  /** ISO 8601. */
  assignedAt: string;
}

/** What access knows of somebody in an organization, or on the platform. */
export interface Facts {
  gifts: Gift[];
  /** Whether the person administers the installation. */
  isAdmin: boolean;
  /** Names of the product's own permissions. */
  products: string[];
  revisions: Revisions;
}

/** Somebody's rights. NOT_FOUND / ORGANIZATION_NOT_FOUND; on the platform NOT_FOUND / USER_NOT_FOUND. */
export async function loadRights(access: AccessContext, subject: Subject, call: Asking): Promise<Rights> {
  if (subject.organizationId === "") {
    const { kind, facts } = await askAccount(access, subject, call);
    return platformRights(kind, facts);
  }
  const { membership, facts } = await askMember(access, subject, call);
  return organizationRights(membership, facts);
}

type Asking = CallOptions & { signal: AbortSignal };

/** All that rights in an organization are decided from. NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function askMember(
  access: AccessContext,
  subject: Subject,
  call: Asking,
): Promise<{ membership: Membership; facts: Facts }> {
  const { signal } = call;
  const [membership, facts] = await Promise.all([
    askMembership(access, subject, call),
    forOrganization(access.db, subject.organizationId, (tx) => readFacts(tx, subject), { signal }),
  ]);
  return { membership, facts };
}

/** All that rights on the platform are decided from. NOT_FOUND / USER_NOT_FOUND. */
export async function askAccount(
  access: AccessContext,
  subject: Subject,
  call: Asking,
): Promise<{ kind: Kind; facts: Facts }> {
  // In this order: the revision of a deletion that comes in between is not yet known then, so what is found here is not kept.
  const facts = await readFacts(during(access.db, call.signal), subject);
  const { kind } = await requireAccount(access, call, subject.userId);
  return { kind, facts };
}

/** What counts for a member: only in an active organization, only in open branches, and only what was given for this membership. */
export function organizationRights(membership: Membership, { gifts, products, ...facts }: Facts): Rights {
  const { role, isActive, branchIds } = membership;
  const revisions = mergeRevisions(facts.revisions, membership.revisions);
  if (role === null) return noRights("none", revisions);
  if (!isActive) return noRights("suspended", revisions);
  const current = gifts.filter(({ membershipId }) => membershipId === membership.id);
  const byBranch = Map.groupBy(current, ({ branchId }) => branchId);
  const everywhere = byBranch.get(null) ?? [];
  const held = setOf(distinct([...permissionsOfMember(role, products), ...permissionsOf(everywhere)]));
  const seesAll = role !== "member" || everywhere.length > 0;
  const visible = branchIds.filter((id) => seesAll || byBranch.has(id));
  return {
    standing: "active",
    roles: distinct([role, ...rolesOf(everywhere)]).sort(),
    permissions: held,
    branches: branchesOf(
      visible.map((id) => {
        const beside = permissionsOf(byBranch.get(id) ?? []).filter((name) => !held.has(name));
        return [id, setOf(distinct(beside))] as const;
      }),
    ),
    revisions,
  };
}

/** What counts on the platform for somebody with an account of this kind. */
export function platformRights(kind: Kind, { gifts, isAdmin, products, revisions }: Facts): Rights {
  const roleNames = [...rolesOfKind(kind), ...(isAdmin ? [ADMIN_ROLE] : []), ...rolesOf(gifts)];
  const held = isAdmin ? allPermissions(products) : permissionsOf(gifts);
  return {
    standing: "active",
    roles: distinct(roleNames).sort(),
    permissions: setOf(distinct(held)),
    branches: new Map(),
    revisions,
  };
}

/** What somebody was given, in one snapshot with the revisions that it is of. */
export async function readFacts(db: Db | Tx, { organizationId, userId }: Subject): Promise<Facts> {
  const isThere =
    organizationId === ""
      ? isNull(assignments.organizationId)
      : ofOrganization("assignments.facts", assignments.organizationId, organizationId);
  const [found] = await db.execute<
    { version: string; platform: string } & Pick<Facts, "gifts" | "isAdmin" | "products">
  >(sql`
    select ${versionOf(organizationId)} as version, ${versionOf("")} as platform,
      exists (select from ${admins} where ${admins.userId} = ${userId}) as "isAdmin",
      (select coalesce(jsonb_agg(${permissions.name}), '[]') from ${permissions}) as products,
      (select coalesce(jsonb_agg(jsonb_build_object(
          'role', ${roles.name}, 'permissions', coalesce(${roles.permissions}, array[${assignments.permission}]),
          'branchId', ${assignments.branchId}, 'membershipId', ${assignments.membershipId}, 'assignedBy', ${assignments.assignedBy},
          'assignedAt', ${assignments.assignedAt}) order by ${assignments.id}), '[]')
        from ${assignments} left join ${roles} on ${roles.id} = ${assignments.roleId}
        where ${assignments.userId} = ${userId} and ${isThere}) as gifts`);
  const { version, platform, ...facts } = found!;
  const revisions = mergeRevisions(
    revision("access", "", BigInt(platform)),
    revision("access", organizationId, BigInt(version)),
  );
  return { ...facts, revisions };
}

function versionOf(organizationId: string): SQL {
  return sql`(select coalesce(max(version), 0)::text from feed_subject where subject = ${subjectOf(organizationId)})`;
}

function rolesOf(gifts: Gift[]): string[] {
  return gifts.flatMap(({ role }) => role ?? []);
}

function permissionsOf(gifts: Gift[]): string[] {
  return gifts.flatMap((gift) => gift.permissions);
}

function distinct(names: string[]): string[] {
  return [...new Set(names)];
}
