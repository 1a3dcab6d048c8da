/**
 * Role holders: who has a role in an organization, or in one of its branches. What was given counts as it does in every
 * decision: for a current membership, in an open branch, while the organization may be used.
 */
import { and, eq, gt, sql } from "drizzle-orm";
import { MemberRole, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { forOrganization, ofOrganization } from "../../db/tenants.ts";
import { type PageRequest, pageOf, pageSizeOf, pageTokenOf, readPageToken } from "../../page-tokens.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { isIdKey } from "./assignments.ts";
import { translateRefusal } from "./memberships.ts";
import { findRole, roleNotFound } from "./roles.ts";
import { assignments } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** Which role, where; and which page. Id in lower case. */
interface Question extends PageRequest {
  organizationId: string;
  role: string;
}

interface Page {
  userIds: string[];
  nextPageToken: string;
}

/** Somebody to whom the role was given, once or more. */
interface Candidate {
  userId: string;
  gifts: { membershipId: string; branchId: string | null }[];
}

const SORTS = new Map([
  ["owner", MemberRole.OWNER],
  ["admin", MemberRole.ADMIN],
  ["member", MemberRole.MEMBER],
]);

/** One page of them. NOT_FOUND / ORGANIZATION_NOT_FOUND or ROLE_NOT_FOUND, INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listRoleHolders(access: AccessContext, scope: CallScope, question: Question): Promise<Page> {
  const sort = SORTS.get(question.role);
  return sort === undefined ? holdersByGift(access, scope, question) : membersOfSort(access, scope, question, sort);
}

/** In the order of organization's list. */
async function membersOfSort(
  access: AccessContext,
  scope: CallScope,
  question: Question,
  role: MemberRole,
): Promise<Page> {
  const { organizationId } = question;
  const list = listOf(question);
  const [pageToken = ""] = readPageToken(list, question, (key) => key.length === 1) ?? [];
  const request = { organizationId, role, pageSize: pageSizeOf(question), pageToken };
  const page = await access.clients.organization.listMemberships(request, onward(scope)).catch(translateRefusal);
  const userIds = page.members.map(({ userId }) => userId);
  const { members } = await askMembers(access, scope, organizationId, userIds);
  return {
    userIds: userIds.filter((userId) => userId in members),
    nextPageToken: page.nextPageToken && pageTokenOf(list, [page.nextPageToken]),
  };
}

/** In the order of their ids. */
async function holdersByGift(access: AccessContext, scope: CallScope, question: Question): Promise<Page> {
  const list = listOf(question);
  const [after] = readPageToken(list, question, isIdKey) ?? [];
  const found = await readCandidates(access, scope, question, after);
  const { entries, nextPageToken } = pageOf(list, question, found, ({ userId }) => [userId]);
  const asked = entries.map(({ userId }) => userId);
  const { members, branchIds } = await askMembers(access, scope, question.organizationId, asked);
  const holders = entries.filter(({ userId, gifts }) =>
    gifts.some(({ membershipId, branchId }) => {
      return membershipId === members[userId] && (branchId === null || branchIds.includes(branchId));
    }),
  );
  return { userIds: holders.map(({ userId }) => userId), nextPageToken };
}

function listOf({ organizationId, role }: Question): string[] {
  return ["ListUsersWithRole", organizationId, role];
}

/** One more than a page has. */
function readCandidates(
  { db }: AccessContext,
  { signal }: CallScope,
  { organizationId, role, ...page }: Question,
  after: string | undefined,
): Promise<Candidate[]> {
  const { userId, membershipId, branchId } = assignments;
  return forOrganization(
    db,
    organizationId,
    async (tx) => {
      const found = await findRole(tx, organizationId, role);
      if (!found) throw roleNotFound();
      const isThere = ofOrganization("assignments.ofRole", assignments.organizationId, organizationId);
      const gift = sql`jsonb_build_object('membershipId', ${membershipId}, 'branchId', ${branchId})`;
      return tx
        .select({ userId, gifts: sql<Candidate["gifts"]>`jsonb_agg(${gift})` })
        .from(assignments)
        .where(and(isThere, eq(assignments.roleId, found.id), after === undefined ? undefined : gt(userId, after)))
        .groupBy(userId)
        .orderBy(userId)
        .limit(pageSizeOf(page) + 1);
    },
    { signal },
  );
}

/** Which of them are members for whom roles count, so none while the organization is suspended; and the open branches. */
async function askMembers({ clients }: AccessContext, scope: CallScope, organizationId: string, userIds: string[]) {
  const request = { organizationId, userIds };
  const { members, status, branchIds } = await clients.organization
    .filterMembers(request, onward(scope))
    .catch(translateRefusal);
  return { members: status === OrganizationStatus.ACTIVE ? members : {}, branchIds };
}
