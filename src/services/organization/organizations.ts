/** Organizations: what people are members of. A deleted one keeps its row, because its slug is not given again. */
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { and, count, eq, ne } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { type OrganizationSchema, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import type { Db, Tx } from "../../db/database.ts";
import { constraintOf } from "../../db/errors.ts";
import { forOrganization, ofOrganization, withinScope } from "../../db/tenants.ts";
import { Code, fail } from "../../errors.ts";
import type { OutboxEvent } from "../../feed/emit.ts";
import type { CallScope, Member, Person } from "../../rpc/call.ts";
import { lockPerson } from "./accounts.ts";
import {
  changeAsMember,
  changeOrganization,
  type Organization,
  organizationNotFound,
  publish,
  type Stored,
} from "./changes.ts";
import { memberChanged, organizationChanged, organizationCreated } from "./events.ts";
import { requireOwner } from "./owners.ts";
import { countFor } from "./person-counters.ts";
import { branches, invitations, memberships, organizations } from "./schema.ts";

type Scope = Pick<CallScope, "signal">;

const MOST_OWNED = 20;
const MAX_SETTINGS_BYTES = 16 * 1024;

/**
 * Makes an organization with its first owner. ALREADY_EXISTS / SLUG_TAKEN, FAILED_PRECONDITION or RESOURCE_EXHAUSTED /
 * TOO_MANY_ORGANIZATIONS, UNAUTHENTICATED for an account that was deleted a moment ago.
 */
export async function createOrganization(
  db: Db,
  scope: Scope,
  { userId }: Pick<Person, "userId">,
  { name, slug }: Pick<Organization, "name" | "slug">,
): Promise<Stored<Organization>> {
  const id = uuidv7();
  const work = async (tx: Tx) => {
    await lockPerson(tx, userId);
    if ((await countOwned(tx, userId)) >= MOST_OWNED) {
      const message = `nobody owns more than ${MOST_OWNED} organizations`;
      throw fail(Code.FailedPrecondition, "TOO_MANY_ORGANIZATIONS", message);
    }
    if (!(await countFor(tx, userId, "organizations"))) {
      throw fail(Code.ResourceExhausted, "TOO_MANY_ORGANIZATIONS", "you have made too many organizations today");
    }
    const [organization] = await tx.insert(organizations).values({ id, name, slug }).onConflictDoNothing().returning();
    if (!organization) throw slugTaken();
    const owner = { organizationId: id, userId, role: "owner" } as const;
    await tx.insert(memberships).values(owner);
    return publish(tx, id, {
      result: organization,
      events: [organizationCreated(organization), memberChanged(owner)],
    });
  };
  return withinScope(db, { organizationId: id, userId }, work, scope);
}

async function countOwned(tx: Tx, userId: string): Promise<number> {
  const isOwner = and(eq(memberships.userId, userId), eq(memberships.role, "owner"));
  const [owned] = await tx.select({ count: count() }).from(memberships).where(isOwner);
  return owned!.count;
}

/** An organization that is not deleted. NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function getOrganization(db: Db, scope: Scope, organizationId: string): Promise<Organization> {
  const isMeant = and(
    ofOrganization("organizations.get", organizations.id, organizationId),
    ne(organizations.status, "deleted"),
  );
  const [organization] = await forOrganization(
    db,
    organizationId,
    (tx) => tx.select().from(organizations).where(isMeant),
    scope,
  );
  if (!organization) throw organizationNotFound();
  return organization;
}

/**
 * Changes what its administrators choose. ALREADY_EXISTS / SLUG_TAKEN, INVALID_ARGUMENT / SETTINGS_TOO_LARGE. Settings
 * that were named and are not there become none.
 */
export async function updateOrganization(
  db: Db,
  scope: Scope,
  member: Member,
  changes: { name?: string; slug?: string; settings?: JsonObject | undefined },
): Promise<Stored<Organization>> {
  const values = "settings" in changes ? { ...changes, settings: changes.settings ?? {} } : changes;
  if (Buffer.byteLength(JSON.stringify(values.settings ?? {})) > MAX_SETTINGS_BYTES) {
    const message = `settings must not exceed ${MAX_SETTINGS_BYTES} bytes as JSON`;
    throw fail(Code.InvalidArgument, "SETTINGS_TOO_LARGE", message);
  }
  try {
    return await changeAsMember(db, scope, member, async (tx, { organization: before }) => {
      const after = await store(tx, before, values);
      const isTold = after.name !== before.name || after.slug !== before.slug;
      return { result: after, events: isTold ? [organizationChanged(after)] : [] };
    });
  } catch (error) {
    throw constraintOf(error) === "organizations_slug" ? slugTaken() : error;
  }
}

/** Says what an organization has bought. NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export function setPlan(
  db: Db,
  scope: Scope,
  { organizationId, plan, modulesEnabled }: { organizationId: string; plan: string; modulesEnabled: string[] },
): Promise<Stored<Organization>> {
  const values = { plan, modulesEnabled: [...new Set(modulesEnabled)].sort() };
  return changeOrganization(db, scope, organizationId, async (tx, before) => {
    const result = await store(tx, before, values);
    return { result, events: [organizationChanged(result)] };
  });
}

/**
 * Takes all permissions in an organization from everybody, or gives them back. NOT_FOUND / ORGANIZATION_NOT_FOUND,
 * FAILED_PRECONDITION / NO_OWNER.
 */
export function setStatus(
  db: Db,
  scope: Scope,
  { organizationId, status }: { organizationId: string; status: "active" | "suspended" },
): Promise<Stored<void>> {
  return changeOrganization(db, scope, organizationId, async (tx, before) => {
    if (before.status === status) return { result: undefined, events: [] };
    if (status === "active") await requireOwner(tx, before);
    return { result: undefined, events: [organizationChanged(await store(tx, before, { status }))] };
  });
}

/** Suspends an organization that is locked; returns what tells of it. */
export async function suspend(tx: Tx, organization: Organization): Promise<OutboxEvent> {
  return organizationChanged(await store(tx, organization, { status: "suspended" }));
}

/** Deletes an organization with all that belongs to it, for good. */
export function deleteOrganization(db: Db, scope: Scope, member: Member): Promise<Stored<void>> {
  return changeAsMember(db, scope, member, async (tx, { organization }) => {
    return { result: undefined, events: [await bury(tx, organization)] };
  });
}

/** Leaves nothing of an organization that is locked but its name and its slug; returns what tells of it. */
export async function bury(tx: Tx, organization: Organization): Promise<OutboxEvent> {
  const { id } = organization;
  await tx.delete(memberships).where(ofOrganization("memberships.bury", memberships.organizationId, id));
  await tx.delete(invitations).where(ofOrganization("invitations.bury", invitations.organizationId, id));
  await tx.delete(branches).where(ofOrganization("branches.bury", branches.organizationId, id));
  return organizationChanged(await store(tx, organization, { status: "deleted", settings: {} }));
}

/** Of an organization that is locked. */
async function store(tx: Tx, { id }: Organization, values: Partial<Omit<Organization, "id">>): Promise<Organization> {
  const [stored] = await tx
    .update(organizations)
    .set(values)
    .where(ofOrganization("organizations.store", organizations.id, id))
    .returning();
  return stored!;
}

function slugTaken() {
  return fail(Code.AlreadyExists, "SLUG_TAKEN", "there is an organization with this slug already");
}

const STATUSES = {
  active: OrganizationStatus.ACTIVE,
  suspended: OrganizationStatus.SUSPENDED,
  deleted: OrganizationStatus.DELETED,
};

export function packStatus(status: Organization["status"]): OrganizationStatus {
  return STATUSES[status];
}

export function packOrganization(organization: Organization): MessageInitShape<typeof OrganizationSchema> {
  const { id: organizationId, name, slug, plan, status, modulesEnabled, createdAt } = organization;
  return {
    ...{ organizationId, name, slug, plan, modulesEnabled },
    status: packStatus(status),
    createdAt: timestampFromDate(createdAt),
  };
}
