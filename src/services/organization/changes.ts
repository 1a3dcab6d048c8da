/**
 * Changes of organizations, one at a time: whoever changes one, or anything that belongs to it, holds the lock on its
 * row. So whether somebody may, whether an owner is left and whether a limit is reached is decided by what is there
 * after the lock, never by what was known before.
 */
import { and, eq, ne, sql } from "drizzle-orm";
import type { Db, Tx } from "../../db/database.ts";
import { forOrganization, ofOrganization } from "../../db/tenants.ts";
import { Code, fail } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import { feedSubject } from "../../feed/schema.ts";
import { permissionMissing } from "../../rights/require-permission.ts";
import { revision, toConsistencyToken } from "../../rights/revisions.ts";
import type { CallScope, Member } from "../../rpc/call.ts";
import { subjectOf } from "./events.ts";
import type { Role } from "./memberships.ts";
import { memberships, organizations } from "./schema.ts";

export type Organization = typeof organizations.$inferSelect;

/** What a change comes to, and what tells of it. */
export interface Changed<Result> {
  result: Result;
  events: OutboxEvent[];
}

/** A change that is stored, with what makes others wait until they know of it. */
export interface Stored<Result> {
  result: Result;
  consistencyToken: string;
}

/** The member who changes something, as the organization knows them now. */
export interface Acting {
  organization: Organization;
  userId: string;
  role: Role;
}

type Scope = Pick<CallScope, "signal">;

/** A change by whoever may do it to any organization. NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export function changeOrganization<Result>(
  db: Db,
  scope: Scope,
  organizationId: string,
  change: (tx: Tx, organization: Organization) => Promise<Changed<Result>>,
): Promise<Stored<Result>> {
  const id = organizationId.toLowerCase();
  return forOrganization(db, id, (tx) => changeWithin(tx, id, change), scope);
}

/** The same in a transaction that is open already; `missing` makes the refusal. Id as the database writes it. */
export async function changeWithin<Result>(
  tx: Tx,
  organizationId: string,
  change: (tx: Tx, organization: Organization) => Promise<Changed<Result>>,
  missing: () => Error = organizationNotFound,
): Promise<Stored<Result>> {
  const organization = await lockOrganization(tx, organizationId);
  if (!organization) throw missing();
  return publish(tx, organizationId, await change(tx, organization));
}

/**
 * A change by a member, who still is one. PERMISSION_DENIED / PERMISSION_MISSING for others, and in a suspended
 * organization.
 */
export function changeAsMember<Result>(
  db: Db,
  scope: Scope,
  { userId, organizationId }: Pick<Member, "userId" | "organizationId">,
  change: (tx: Tx, acting: Acting) => Promise<Changed<Result>>,
): Promise<Stored<Result>> {
  const work = async (tx: Tx) => {
    const organization = await lockOrganization(tx, organizationId);
    const role = await roleOf(tx, organizationId, userId);
    if (organization?.status !== "active" || !role) throw permissionMissing();
    return publish(tx, organizationId, await change(tx, { organization, userId, role }));
  };
  return forOrganization(db, organizationId, work, scope);
}

/**
 * Keeps an organization as it is until the transaction ends, but for the transaction itself. Undefined for one that is
 * not there.
 */
export async function lockOrganization(tx: Tx, organizationId: string): Promise<Organization | undefined> {
  const [organization] = await tx
    .select()
    .from(organizations)
    .where(
      and(ofOrganization("organizations.lock", organizations.id, organizationId), ne(organizations.status, "deleted")),
    )
    .for("no key update");
  return organization;
}

/** What somebody is in an organization; undefined for who is no member. */
export async function roleOf(tx: Tx, organizationId: string, userId: string): Promise<Role | undefined> {
  const [membership] = await tx
    .select({ role: memberships.role })
    .from(memberships)
    .where(
      and(
        ofOrganization("memberships.role", memberships.organizationId, organizationId),
        eq(memberships.userId, userId),
      ),
    );
  return membership?.role;
}

/** The first write of an organization, or a later one that holds its lock. */
export async function publish<Result>(
  tx: Tx,
  organizationId: string,
  { result, events }: Changed<Result>,
): Promise<Stored<Result>> {
  const versions = await emit(tx, events);
  const version = versions.get(subjectOf(organizationId)) ?? (await versionOf(tx, organizationId));
  return { result, consistencyToken: toConsistencyToken(revision("organization", organizationId, version)) };
}

/** Of an organization in which nothing was changed after all. */
async function versionOf(tx: Tx, organizationId: string): Promise<bigint> {
  const [subject] = await tx
    .select({ version: sql`${feedSubject.version}`.mapWith(BigInt) })
    .from(feedSubject)
    .where(eq(feedSubject.subject, subjectOf(organizationId)));
  return subject?.version ?? 0n;
}

export function organizationNotFound() {
  return fail(Code.NotFound, "ORGANIZATION_NOT_FOUND", "there is no such organization");
}
