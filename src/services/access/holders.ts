/**
 * Holders: who holds a permission in an organization. Candidates come from organization's members and from what was given; each is then
 * checked like everybody else, so this list and the checks agree.
 */
import { and, eq, gt, isNull, or, sql } from "drizzle-orm";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { forOrganization, ofOrganization } from "../../db/tenants.ts";
import { type ListName, type PageRequest, pageOf, pageSizeOf, pageTokenOf, readPageToken } from "../../page-tokens.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import { isIdKey } from "./assignments.ts";
import { type Check, checkPermissions } from "./checks.ts";
import { translateRefusal } from "./memberships.ts";
import { isOfEveryMember } from "./permissions.ts";
import { assignments, roles } from "./schema.ts";
import type { AccessContext } from "./service.ts";

/** Which permission, where; and which page. */
type Question = Omit<Check, "userId"> & PageRequest;

interface Page {
  userIds: string[];
  nextPageToken: string;
}

const CANDIDATES_AT_ONCE = 100;

/** One page of those who hold a permission. NOT_FOUND / ORGANIZATION_NOT_FOUND, INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listHolders(access: AccessContext, scope: CallScope, question: Question): Promise<Page> {
  const { organizationId, permission, branchId } = question;
  const list = ["ListUsersWithPermission", organizationId, permission, branchId];
  // What comes with every membership is held by all members, who are organization's to list.
  const isOfAll = branchId === "" && isOfEveryMember(permission);
  return isOfAll ? holdersAmongMembers(access, scope, question, list) : holdersById(access, scope, question, list);
}

/** In the order of organization's list. */
async function holdersAmongMembers(
  access: AccessContext,
  scope: CallScope,
  question: Question,
  list: ListName,
): Promise<Page> {
  const { organizationId } = question;
  const [after = ""] = readPageToken(list, question, (key) => key.length === 1) ?? [];
  const page = { organizationId, pageSize: pageSizeOf(question), pageToken: after };
  const { members, nextPageToken } = await listMembers(access, scope, page);
  const userIds = await onlyHolders(access, scope, question, members);
  return { userIds, nextPageToken: nextPageToken && pageTokenOf(list, [nextPageToken]) };
}

/** In the order of their ids. */
async function holdersById(access: AccessContext, scope: CallScope, question: Question, list: ListName): Promise<Page> {
  const [after = ""] = readPageToken(list, question, isIdKey) ?? [];
  const leading = await Promise.all([
    allMembers(access, scope, question.organizationId, MemberRole.OWNER),
    allMembers(access, scope, question.organizationId, MemberRole.ADMIN),
  ]);
  const holders: string[] = [];
  for (let last = after; holders.length <= pageSizeOf(question); ) {
    const given = await candidatesByGifts(access, scope, question, last);
    const known = leading.flat().filter((userId) => userId > last);
    const candidates = [...new Set([...given, ...known])].sort().slice(0, CANDIDATES_AT_ONCE);
    if (candidates.length === 0) break;
    holders.push(...(await onlyHolders(access, scope, question, candidates)));
    last = candidates.at(-1)!;
  }
  const { entries, nextPageToken } = pageOf(list, question, holders, (userId) => [userId]);
  return { userIds: entries, nextPageToken };
}

async function onlyHolders(
  access: AccessContext,
  scope: CallScope,
  question: Question,
  candidates: string[],
): Promise<string[]> {
  const checks = candidates.map((userId) => ({ ...question, userId }));
  const results = await checkPermissions(access, scope, checks);
  return candidates.filter((_, index) => results[index]!.allowed);
}

/** The first who may hold it by what they were given, after an id. */
async function candidatesByGifts(
  { db }: AccessContext,
  { signal }: CallScope,
  { organizationId, permission, branchId }: Question,
  after: string,
): Promise<string[]> {
  const gives = or(eq(assignments.permission, permission), sql`${permission} = any(${roles.permissions})`);
  const isThere = or(isNull(assignments.branchId), branchId === "" ? undefined : eq(assignments.branchId, branchId));
  // In a branch, what comes with every membership is held by all who may act there.
  const isCandidate = isOfEveryMember(permission) ? isThere : and(gives, isThere);
  const isOf = ofOrganization("assignments.holders", assignments.organizationId, organizationId);
  const rows = await forOrganization(
    db,
    organizationId,
    (tx) =>
      tx
        .selectDistinct({ userId: assignments.userId })
        .from(assignments)
        .leftJoin(roles, eq(roles.id, assignments.roleId))
        .where(and(isOf, isCandidate, after === "" ? undefined : gt(assignments.userId, after)))
        .orderBy(assignments.userId)
        .limit(CANDIDATES_AT_ONCE),
    { signal },
  );
  return rows.map(({ userId }) => userId);
}

async function allMembers(
  access: AccessContext,
  scope: CallScope,
  organizationId: string,
  role: MemberRole,
): Promise<string[]> {
  const found: string[] = [];
  for (let pageToken: string | undefined = ""; pageToken !== undefined; ) {
    const page = await listMembers(access, scope, { organizationId, role, pageSize: CANDIDATES_AT_ONCE, pageToken });
    found.push(...page.members);
    pageToken = page.nextPageToken || undefined;
  }
  return found;
}

async function listMembers(
  { clients }: AccessContext,
  scope: CallScope,
  request: { organizationId: string; role?: MemberRole; pageSize: number; pageToken: string },
): Promise<{ members: string[]; nextPageToken: string }> {
  const answer = await clients.organization.listMemberships(request, onward(scope)).catch(translateRefusal);
  return { members: answer.members.map(({ userId }) => userId), nextPageToken: answer.nextPageToken };
}
