/**
 * Departures: what becomes of roles and permissions when a person or an organization goes. Rights do not wait for this, they end with the
 * membership; but who comes back starts with nothing. All of it is done by jobs, which see every organization.
 */
import { eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/database.ts";
import type { OutboxEvent } from "../../feed/emit.ts";
import type { Subject } from "../../rights/rights.ts";
import { markDeleted } from "./accounts.ts";
import { takeAll } from "./assignments.ts";
import { ACCOUNT_ROLE, ADMIN_ROLE } from "./built-in-roles.ts";
import { lockChanges } from "./changes.ts";
import { roleDeleted, taken } from "./events.ts";
import { admins, removedMembers, roles } from "./schema.ts";

/** Takes all that was given to a member who was removed; returns what tells of it. `revision`: that of the removal. */
export async function removeMember(
  tx: Tx,
  { organizationId, userId }: Subject,
  revision: bigint,
): Promise<OutboxEvent[]> {
  await lockChanges(tx, organizationId);
  await tx
    .insert(removedMembers)
    .values({ organizationId, userId, revision })
    .onConflictDoUpdate({
      target: [removedMembers.organizationId, removedMembers.userId],
      set: { revision: sql`greatest(${removedMembers.revision}, excluded.revision)` },
    });
  return takeAll(tx, { organizationId, userId });
}

/** Removes all roles of an organization that was deleted, and all that was given there; returns what tells of it. */
export async function removeOrganization(tx: Tx, organizationId: string): Promise<OutboxEvent[]> {
  await lockChanges(tx, organizationId);
  const events = await takeAll(tx, { organizationId });
  const removed = await tx
    .delete(roles)
    .where(eq(roles.organizationId, organizationId))
    .returning({ name: roles.name });
  return [...events, ...removed.map(({ name }) => roleDeleted({ organizationId, name }))];
}

/** Takes all roles and permissions from an account that is deleted, for good; returns what tells of it. */
export async function removeAccount(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  const isNew = await markDeleted(tx, userId);
  const wasAdmin = await tx.delete(admins).where(eq(admins.userId, userId)).returning({ userId: admins.userId });
  const gone = [...(isNew ? [ACCOUNT_ROLE] : []), ...wasAdmin.map(() => ADMIN_ROLE)];
  const platform = { userId, organizationId: "", branchId: "" };
  return [...gone.map((role) => taken({ ...platform, what: { role } })), ...(await takeAll(tx, { userId }))];
}
