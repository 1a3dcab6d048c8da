/**
 * Accounts, when they end: memberships go with them. auth asks before it deletes one (releaseUser), so that no
 * organization loses its last owner by that; what the person begins in the moment between is undone when the deletion
 * is told (removeAccount), and a tombstone keeps the person out of whatever comes later.
 */
import { asc, eq, sql } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit, type OutboxEvent } from "../../feed/emit.ts";
import type { CallScope } from "../../rpc/call.ts";
import { lockOrganization, type Organization, roleOf } from "./changes.ts";
import { countOthers, endMembership, lastOwner, type Membership } from "./memberships.ts";
import { bury, suspend } from "./organizations.ts";
import { deletedAccounts, memberships } from "./schema.ts";

/**
 * Lets a person join or make one organization at a time, and keeps their account from being deleted, until the
 * transaction ends; before an organization is locked. UNAUTHENTICATED, or what `refusal` makes, if it was deleted: the
 * call may have been let in before the end of its session was known.
 */
export async function lockPerson(tx: Tx, userId: string, refusal: () => Error = unauthenticated): Promise<void> {
  await takeLock(tx, userId);
  // A statement of its own, which sees what the lock was waited for.
  const [deleted] = await tx.select().from(deletedAccounts).where(eq(deletedAccounts.userId, userId));
  if (deleted) throw refusal();
}

function unauthenticated() {
  return fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated");
}

/** There is no row of a living account to lock. */
async function takeLock(tx: Tx, userId: string): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`person/${userId}`}, 0))`);
}

/**
 * Ends all memberships of an account that is about to be deleted, with organizations that have no other member.
 * FAILED_PRECONDITION / LAST_OWNER if one with other members would be left without an owner; then nothing has changed.
 * `jobDb` sees all organizations.
 */
export async function releaseUser(jobDb: Db, { signal }: Pick<CallScope, "signal">, id: string): Promise<void> {
  const userId = id.toLowerCase();
  const work = async (tx: Tx) => {
    await takeLock(tx, userId);
    const refuse = () => Promise.reject(lastOwner());
    await emit(tx, await endMemberships(tx, userId, refuse));
  };
  await transaction(jobDb, work, { signal });
}

/**
 * Does the same for an account that is deleted, in any case: what is left without an owner is suspended. Returns what
 * tells of it.
 */
export async function removeAccount(tx: Tx, userId: string): Promise<OutboxEvent[]> {
  await takeLock(tx, userId);
  await tx.insert(deletedAccounts).values({ userId }).onConflictDoNothing();
  return endMemberships(tx, userId, async (organization, membership) => [
    await endMembership(tx, membership),
    await suspend(tx, organization),
  ]);
}

type Ending = (organization: Organization, membership: Membership) => Promise<OutboxEvent[]>;

/** Of a person whose lock is held; `endLast` decides about the last owner of what has other members. */
async function endMemberships(tx: Tx, userId: string, endLast: Ending): Promise<OutboxEvent[]> {
  const events: OutboxEvent[] = [];
  for (const organizationId of await organizationsOf(tx, userId)) {
    const organization = await lockOrganization(tx, organizationId);
    // Looked at after the lock: somebody else may have ended it.
    const role = await roleOf(tx, organizationId, userId);
    if (!organization || !role) continue;
    const membership = { organizationId, userId, role };
    const others = await countOthers(tx, membership);
    if (others.members === 0) events.push(await bury(tx, organization));
    else if (membership.role === "owner" && others.owners === 0)
      events.push(...(await endLast(organization, membership)));
    else events.push(await endMembership(tx, membership));
  }
  return events;
}

async function organizationsOf(tx: Tx, userId: string): Promise<string[]> {
  const own = await tx
    .select({ id: memberships.organizationId })
    .from(memberships)
    .where(eq(memberships.userId, userId))
    // Always in one order, so that two who end their memberships do not wait for each other.
    .orderBy(asc(memberships.organizationId));
  return own.map(({ id }) => id);
}
