/**
 * Departures: what becomes of roles and permissions when a person or an organization goes. Rights do not wait for this, they end with the
 * membership. All of it is done by jobs, which see every organization; they wait for none: an event of one whose changes are under way
 * is tried again, and then parked, while the others go on.
 */
import { and, eq, isNull } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import type { OutboxEvent } from "../../feed/emit.ts";
import type { Subject } from "../../rights/rights.ts";
import { markDeleted } from "./accounts.ts";
import { takeAll } from "./assignments.ts";
import { ACCOUNT_ROLE, ADMIN_ROLE } from "./built-in-roles.ts";
import { requireChanges } from "./changes.ts";
import { roleDeleted, taken } from "./events.ts";
import { admins, assignments, roles } from "./schema.ts";

/** Takes all that was given for a membership that has ended; returns what tells of it. */
export async function removeMember(
  tx: Tx,
  { organizationId, userId, membershipId }: Subject & { membershipId: string },
): Promise<OutboxEvent[]> {
  await requireChanges(tx, organizationId);
  const isTheirs = and(eq(assignments.organizationId, organizationId), eq(assignments.userId, userId));
  return takeAll(tx, and(isTheirs, eq(assignments.membershipId, membershipId)));
}

/** Removes all roles of an organization that was deleted, and all that was given there; returns what tells of it. */
export async function removeOrganization(tx: Tx, organizationId: string): Promise<OutboxEvent[]> {
  await requireChanges(tx, organizationId);
  const events = await takeAll(tx, eq(assignments.organizationId, organizationId));
  const removed = await tx
    .delete(roles)
    .where(eq(roles.organizationId, organizationId))
    .returning({ name: roles.name });
  return [...events, ...removed.map(({ name }) => roleDeleted({ organizationId, name }))];
}

/**
 * Takes all roles and permissions on the platform from an account that is deleted, for good; returns what tells of it. What was given in
 * organizations ends with the memberships.
 */
export async function removeAccount(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  const isNew = await markDeleted(tx, userId);
  const wasAdmin = await tx.delete(admins).where(eq(admins.userId, userId)).returning({ userId: admins.userId });
  const gone = [...(isNew ? [ACCOUNT_ROLE] : []), ...wasAdmin.map(() => ADMIN_ROLE)];
  const isTheirs = and(eq(assignments.userId, userId), isNull(assignments.organizationId));
  const platform = { userId, organizationId: "", branchId: "" };
  return [...gone.map((role) => taken({ ...platform, what: { role } })), ...(await takeAll(tx, isTheirs))];
}
