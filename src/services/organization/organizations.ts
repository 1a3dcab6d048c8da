/** Organizations: what people are members of. Whoever changes one, or what belongs to it, holds the lock on its row. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { v7 as uuidv7 } from "uuid";
import { type OrganizationSchema, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import { type Revisions, revision } from "../../rights/revisions.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { memberChanged, organizationCreated, subjectOf } from "./events.ts";
import { memberships, organizations } from "./schema.ts";
import type { OrganizationContext } from "./service.ts";

export type Organization = typeof organizations.$inferSelect;

/** Makes an organization with its first owner. ALREADY_EXISTS / SLUG_TAKEN. */
export async function createOrganization(
  { db }: OrganizationContext,
  { signal }: CallScope,
  { userId }: Person,
  { name, slug }: { name: string; slug: string },
): Promise<{ organization: Organization; revisions: Revisions }> {
  const id = uuidv7();
  return transaction(
    db,
    async (tx) => {
      const [organization] = await tx
        .insert(organizations)
        .values({ id, name, slug })
        .onConflictDoNothing()
        .returning();
      if (!organization)
        throw fail(Code.AlreadyExists, "SLUG_TAKEN", "there is an organization with this slug already");
      const owner = { organizationId: id, userId, role: "owner" } as const;
      await tx.insert(memberships).values(owner);
      const versions = await emit(tx, [organizationCreated(organization), memberChanged(owner)]);
      return { organization, revisions: revision("organization", id, versions.get(subjectOf(id))!) };
    },
    { signal },
  );
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
