/**
 * Lists of memberships: the members of an organization, and the organizations of a person, both by when a membership
 * began; and who of some people is a member.
 */
import { and, asc, desc, eq, getTableColumns, ne, type SQL, sql } from "drizzle-orm";
import { validate as isUuid } from "uuid";
import type { Db } from "../../db/database.ts";
import { forOrganization, forPerson, ofOrganization } from "../../db/tenants.ts";
import { type PageRequest, pageOf, pageSizeOf, readPageToken } from "../../page-tokens.ts";
import type { CallScope } from "../../rpc/call.ts";
import { type Organization, organizationNotFound } from "./changes.ts";
import type { Role } from "./memberships.ts";
import { branches, memberships, organizations } from "./schema.ts";

type Scope = Pick<CallScope, "signal">;

export interface ListedMember {
  userId: string;
  role: Role;
  since: Date;
}

export interface OwnOrganization {
  organization: Organization;
  role: Role;
}

/** Who of some people is a member. */
export interface FilteredMembers {
  /** UUIDs of memberships by user. */
  members: Record<string, string>;
  status: Organization["status"];
  /** The open branches. */
  branchIds: string[];
}

/** As exact as the database has it, which a Date is not: microseconds since 1970. */
const sinceMicros = sql<string>`(extract(epoch from ${memberships.since}) * 1000000)::bigint::text`;

/** A page of members, oldest first; of one sort only, if that is given. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listMembers(
  db: Db,
  scope: Scope,
  { organizationId, role, ...page }: PageRequest & { organizationId: string; role?: Role },
): Promise<{ entries: ListedMember[]; nextPageToken: string }> {
  const list = ["members", organizationId.toLowerCase(), role ?? ""];
  const after = readPageToken(list, page, isPlace);
  const isMeant = and(
    ofOrganization("members.list", memberships.organizationId, organizationId),
    role && eq(memberships.role, role),
    after && isBeyond(after, sql`>`, sql`${memberships.userId}`),
  );
  const { userId, since } = memberships;
  const found = await forOrganization(
    db,
    organizationId,
    (tx) =>
      tx
        .select({ userId, role: memberships.role, since, micros: sinceMicros })
        .from(memberships)
        .where(isMeant)
        .orderBy(asc(since), asc(userId))
        .limit(pageSizeOf(page) + 1),
    scope,
  );
  return pageOf(list, page, found, (member) => [member.micros, member.userId]);
}

/** Which of these people are members, and what the organization is, at one moment. NOT_FOUND / ORGANIZATION_NOT_FOUND. */
export async function filterMembers(
  db: Db,
  scope: Scope,
  { organizationId, userIds }: { organizationId: string; userIds: string[] },
): Promise<FilteredMembers> {
  const id = organizationId.toLowerCase();
  const asked = sql`jsonb_array_elements_text(${JSON.stringify(userIds)}::jsonb)`;
  const query = sql`
    select ${organizations.status} as status,
      coalesce((select jsonb_object_agg(${memberships.userId}, ${memberships.id}) from ${memberships}
        where ${ofOrganization("members.filter", memberships.organizationId, id)}
          and ${memberships.userId} in (select value::uuid from ${asked})),
        '{}') as members,
      coalesce((select jsonb_agg(${branches.id}) from ${branches}
        where ${ofOrganization("branches.filter", branches.organizationId, id)} and ${branches.closedAt} is null),
        '[]') as "branchIds"
    from ${organizations}
    where ${ofOrganization("organizations.filter", organizations.id, id)} and ${ne(organizations.status, "deleted")}`;
  type Found = { [Key in keyof FilteredMembers]: FilteredMembers[Key] };
  const [found] = await forOrganization(db, id, (tx) => tx.execute<Found>(query), scope);
  if (!found) throw organizationNotFound();
  return found;
}

/** A page of somebody's organizations, newest membership first. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listOrganizationsOf(
  db: Db,
  scope: Scope,
  { userId, ...page }: PageRequest & { userId: string },
): Promise<{ entries: OwnOrganization[]; nextPageToken: string }> {
  const list = ["organizations", userId.toLowerCase()];
  const before = readPageToken(list, page, isPlace);
  const { since, role } = memberships;
  const isMeant = and(
    eq(memberships.userId, userId),
    before && isBeyond(before, sql`<`, sql`${memberships.organizationId}`),
  );
  const found = await forPerson(
    db,
    { userId },
    (tx) =>
      tx
        .select({ organization: getTableColumns(organizations), role, micros: sinceMicros })
        .from(memberships)
        .innerJoin(organizations, eq(organizations.id, memberships.organizationId))
        .where(isMeant)
        .orderBy(desc(since), desc(memberships.organizationId))
        .limit(pageSizeOf(page) + 1),
    scope,
  );
  return pageOf(list, page, found, ({ micros, organization }) => [micros, organization.id]);
}

function isPlace([micros = "", id, ...others]: string[]): boolean {
  return /^\d{1,16}$/.test(micros) && isUuid(id) && others.length === 0;
}

function isBeyond([micros, id]: string[], than: SQL, column: SQL): SQL {
  const since = sql`'epoch'::timestamptz + ${micros}::bigint * interval '1 microsecond'`;
  return sql`(${memberships.since}, ${column}) ${than} (${since}, ${id}::uuid)`;
}
