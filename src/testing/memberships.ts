/**
 * Memberships as organization stores and publishes them, for tests of those who only hear of them. What changes something returns its
 * consistency token.
 */
import { and, eq } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import {
  BranchChangedSchema,
  MemberRemovedSchema,
} from "../../gen/concierge/organization/v1/organization_events_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { openDatabase, type Tx, transaction } from "../db/database.ts";
import { emit, event, type OutboxEvent } from "../feed/emit.ts";
import { revision, toConsistencyToken } from "../rights/revisions.ts";
import { memberChanged, organizationChanged, subjectOf } from "../services/organization/events.ts";
import { branches, memberships, organizations } from "../services/organization/schema.ts";
import type { TestSystem, TestUser } from "./system.ts";

/** Makes one; returns its id. */
export async function makeOrganization(system: TestSystem, owner: TestUser): Promise<string> {
  const request = { name: "Bakery", slug: `bakery-${crypto.randomUUID()}` };
  const { organization } = await system.asUser(OrganizationService, owner.accessToken).createOrganization(request);
  return organization!.organizationId;
}

export async function addMember(system: TestSystem, organizationId: string, { userId }: TestUser): Promise<string> {
  const member = { organizationId, userId, role: "member" } as const;
  return change(system, organizationId, async (tx) => {
    await tx.insert(memberships).values(member);
    return memberChanged(member);
  });
}

export async function removeMember(system: TestSystem, organizationId: string, { userId }: TestUser): Promise<string> {
  return change(system, organizationId, async (tx) => {
    const isMember = and(eq(memberships.organizationId, organizationId), eq(memberships.userId, userId));
    await tx.delete(memberships).where(isMember);
    return event(MemberRemovedSchema, subjectOf(organizationId), { organizationId, userId });
  });
}

export async function setStatus(
  system: TestSystem,
  organizationId: string,
  status: "active" | "suspended" | "deleted",
): Promise<string> {
  return change(system, organizationId, async (tx) => {
    const changed = tx.update(organizations).set({ status }).where(eq(organizations.id, organizationId));
    const [organization] = await changed.returning();
    return organizationChanged(organization!);
  });
}

/** Returns its id. */
export async function openBranch(system: TestSystem, organizationId: string): Promise<string> {
  const id = uuidv7();
  await change(system, organizationId, async (tx) => {
    await tx.insert(branches).values({ id, organizationId, name: id });
    const branch = { branchId: id, organizationId, name: id, open: true };
    return event(BranchChangedSchema, subjectOf(organizationId), { branch });
  });
  return id;
}

async function change(
  system: TestSystem,
  organizationId: string,
  work: (tx: Tx) => Promise<OutboxEvent>,
): Promise<string> {
  const { ownerUrl: url } = system.database("organization");
  await using database = openDatabase({ url, poolSize: 1, applicationName: "concierge-test" });
  const versions = await transaction(database.db, async (tx) => emit(tx, [await work(tx)]));
  const version = versions.get(subjectOf(organizationId))!;
  return toConsistencyToken(revision("organization", organizationId, version));
}
