/**
 * Invitations: who was asked to become a member, by an e-mail address. There is no secret in one: whoever is signed in
 * with an account whose verified address it is may use it, once and while it is open. It ends with the membership of
 * whoever made it, so that nobody comes back by an invitation that they made before they were removed.
 */
import { and, desc, eq, gt, isNull, lt, type SQL, sql } from "drizzle-orm";
import { validate as isUuid, v7 as uuidv7 } from "uuid";
import type { Db, Tx } from "../../db/database.ts";
import { forOrganization, ofOrganization, type PredicateName } from "../../db/tenants.ts";
import { emailKeyOf } from "../../emails.ts";
import { Code, fail } from "../../errors.ts";
import type { Job } from "../../jobs.ts";
import { type PageRequest, pageOf, pageSizeOf, readPageToken } from "../../page-tokens.ts";
import type { CallScope, Member } from "../../rpc/call.ts";
import { changeAsMember, roleOf } from "./changes.ts";
import { memberInvited } from "./events.ts";
import { type Membership, type RequireRecent, type Role, requireMayDeal, requireRank } from "./memberships.ts";
import { countFor } from "./person-counters.ts";
import { invitations } from "./schema.ts";

export type Invitation = typeof invitations.$inferSelect;

type Scope = Pick<CallScope, "signal">;

const DAYS = 7;
const MOST_OPEN = 100;
const MOST_PER_DAY = 100;
const KEEP_DAYS = 2 * DAYS;
const SWEEP_MS = 3_600_000;
const SWEEP_ROWS = 1_000;

export const isOpen = and(isNull(invitations.endedAt), gt(invitations.expiresAt, sql`(select concierge_now())`));

/**
 * Invites an address, in place of an older invitation. Says nothing of whether it belongs to somebody.
 * PERMISSION_DENIED / PERMISSION_MISSING, RESOURCE_EXHAUSTED / TOO_MANY_INVITATIONS, and for owners what
 * `requireRecent` throws.
 */
export async function inviteMember(
  db: Db,
  scope: Scope,
  member: Member,
  { email, role }: { email: string; role: Role },
  requireRecent: RequireRecent,
): Promise<Invitation> {
  const emailKey = emailKeyOf(email);
  const stored = await changeAsMember(db, scope, member, async (tx, { organization, userId, role: own }) => {
    requireMayDeal(own, [role], requireRecent);
    const { id: organizationId } = organization;
    const replaced = await end(tx, "invitations.replace", organizationId, eq(invitations.emailKey, emailKey));
    const wereOpen = replaced.filter(({ expiresAt, endedAt }) => expiresAt > endedAt!);
    requireRank(own, ...wereOpen.map((each) => each.role));
    await refuseTooMany(tx, organizationId);
    if (!(await countFor(tx, userId, "invitations"))) throw tooManyInvitations();
    const values = { id: uuidv7(), organizationId, email, emailKey, role, invitedBy: userId };
    const expiresAt = sql`concierge_now() + make_interval(days => ${DAYS})`;
    const [invitation] = await tx
      .insert(invitations)
      .values({ ...values, expiresAt })
      .returning();
    return { result: invitation!, events: [memberInvited(invitation!, organization)] };
  });
  return stored.result;
}

async function refuseTooMany(tx: Tx, organizationId: string): Promise<void> {
  const isNew = sql`${invitations.createdAt} > concierge_now() - interval '1 day'`;
  const [found] = await tx
    .select({
      open: sql`count(*) filter (where ${isOpen})`.mapWith(Number),
      made: sql`count(*) filter (where ${isNew})`.mapWith(Number),
    })
    .from(invitations)
    .where(ofOrganization("invitations.count", invitations.organizationId, organizationId));
  if (found!.open < MOST_OPEN && found!.made < MOST_PER_DAY) return;
  throw tooManyInvitations();
}

function tooManyInvitations() {
  return fail(Code.ResourceExhausted, "TOO_MANY_INVITATIONS", "too many invitations are open, or were made today");
}

/** A page of the open invitations, newest first. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listInvitations(
  db: Db,
  scope: Scope,
  { organizationId }: Pick<Member, "organizationId">,
  page: PageRequest,
): Promise<{ entries: Invitation[]; nextPageToken: string }> {
  const list = ["invitations", organizationId];
  const before = readPageToken(list, page, ([id, ...others]) => isUuid(id) && others.length === 0);
  const isMeant = and(
    ofOrganization("invitations.list", invitations.organizationId, organizationId),
    isOpen,
    before && lt(invitations.id, before[0]!),
  );
  const find = (tx: Tx) => {
    const size = pageSizeOf(page) + 1;
    return tx.select().from(invitations).where(isMeant).orderBy(desc(invitations.id)).limit(size);
  };
  return pageOf(list, page, await forOrganization(db, organizationId, find, scope), ({ id }) => [id]);
}

/** Takes an open invitation back. NOT_FOUND / INVITATION_NOT_FOUND, PERMISSION_DENIED / PERMISSION_MISSING. */
export async function revokeInvitation(db: Db, scope: Scope, member: Member, id: string): Promise<void> {
  await changeAsMember(db, scope, member, async (tx, { organization, role: own }) => {
    const { role } = await endOne(tx, "invitations.revoke", organization.id, id);
    requireRank(own, role);
    return { result: undefined, events: [] };
  });
}

/** Ends those that somebody made who is a member no more, or not what it takes any more. */
export async function endInvitationsOf(tx: Tx, { organizationId, userId }: Omit<Membership, "role">): Promise<void> {
  const role = await roleOf(tx, organizationId, userId);
  if (role === "owner") return;
  const isTooMuch = role === "admin" ? eq(invitations.role, "owner") : undefined;
  await end(tx, "invitations.inviter", organizationId, and(eq(invitations.invitedBy, userId), isTooMuch));
}

/** Ends an open invitation. NOT_FOUND / INVITATION_NOT_FOUND. */
export async function endOne(tx: Tx, name: PredicateName, organizationId: string, id: string): Promise<Invitation> {
  const [one] = await end(tx, name, organizationId, and(eq(invitations.id, id), isOpen));
  if (!one) throw invitationNotFound();
  return one;
}

function end(tx: Tx, name: PredicateName, organizationId: string, which: SQL | undefined): Promise<Invitation[]> {
  return tx
    .update(invitations)
    .set({ endedAt: sql`concierge_now()` })
    .where(and(ofOrganization(name, invitations.organizationId, organizationId), isNull(invitations.endedAt), which))
    .returning();
}

/**
 * Ends every open one, after a restore that lost changes: some were taken back since, or who made them has lost the right to.
 * Returns what it did, a line each.
 */
export async function endAllInvitations(db: Db): Promise<string[]> {
  const ended = await db
    .update(invitations)
    .set({ endedAt: sql`concierge_now()` })
    .where(isNull(invitations.endedAt))
    .returning({ id: invitations.id });
  return [`${ended.length} open invitations were taken back, to be made again`];
}

/** The refusal of an invitation that is not there, not for the caller, used, revoked or too old. */
export function invitationNotFound() {
  return fail(Code.NotFound, "INVITATION_NOT_FOUND", "there is no such invitation");
}

/**
 * The job that deletes old ones, which hold addresses of people who may have nothing to do with us; in small batches.
 */
export function sweepInvitations(jobDb: Db): Job {
  const statement = sql`
    delete from ${invitations} where id in (
      select id from ${invitations} where created_at < (select concierge_now()) - make_interval(days => ${KEEP_DAYS})
      limit ${SWEEP_ROWS} for update skip locked)
    returning 1`;
  return {
    name: "delete old invitations",
    everyMs: SWEEP_MS,
    async run(signal) {
      while (!signal.aborted && (await jobDb.execute(statement)).length === SWEEP_ROWS);
    },
  };
}
