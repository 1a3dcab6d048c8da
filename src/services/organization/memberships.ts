/** Memberships: who is a member of what. The last owner can be neither removed nor demoted (C19). */
import { sql } from "drizzle-orm";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { type Db, during } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope } from "../../rpc/call.ts";
import { subjectOf } from "./events.ts";
import { branches, memberships, organizations } from "./schema.ts";

export type Membership = Pick<typeof memberships.$inferSelect, "organizationId" | "userId" | "role">;

/** What somebody is in an organization, and what the organization is, all of one moment. */
export interface Standing {
  /** Null for somebody who is no member. */
  role: Membership["role"] | null;
  status: (typeof organizations.$inferSelect)["status"];
  /** The open branches. */
  branchIds: string[];
  revision: bigint;
}

/** NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function getStanding(
  db: Db,
  { signal }: CallScope,
  { organizationId, userId }: { organizationId: string; userId: string },
): Promise<Standing> {
  const id = organizationId.toLowerCase();
  const [found] = await during(db, signal).execute<
    { [Key in keyof Standing]: Standing[Key] } & { revision: string }
  >(sql`
    select ${organizations.status} as status, ${memberships.role} as role,
      coalesce((select array_agg(${branches.id}::text order by ${branches.id}) from ${branches}
        where ${branches.organizationId} = ${organizations.id} and ${branches.closedAt} is null), '{}') as "branchIds",
      coalesce((select version from feed_subject where subject = ${subjectOf(id)}), 0)::text as revision
    from ${organizations} left join ${memberships}
      on ${memberships.organizationId} = ${organizations.id} and ${memberships.userId} = ${userId}
    where ${organizations.id} = ${id}`);
  if (!found) throw organizationNotFound();
  return { ...found, revision: BigInt(found.revision) };
}

export function organizationNotFound() {
  return fail(Code.NotFound, "ORGANIZATION_NOT_FOUND", "there is no such organization");
}

const ROLES = { member: MemberRole.MEMBER, admin: MemberRole.ADMIN, owner: MemberRole.OWNER };

export function packRole(role: Membership["role"]): MemberRole {
  return ROLES[role];
}
