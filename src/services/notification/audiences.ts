/**
 * Audiences: whom a notification is for, as organization and access know it at the moment of the call. With an
 * organization nobody is reached who is not a member of it.
 */
import type { ConnectError } from "@connectrpc/connect";
import { OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { Code, fail, reasonOf } from "../../errors.ts";
import { LARGE_PAGE_SIZE } from "../../page-tokens.ts";
import { type CallScope, onward } from "../../rpc/call.ts";
import type { NotificationContext } from "./service.ts";

/** All of these together. */
export interface Audience {
  /** UUID; empty where there is none, and then only `userIds` name anybody. */
  organizationId: string;
  userIds: string[];
  /** Everybody who has this role; empty for none. */
  role: string;
  /** Every member. */
  allMembers: boolean;
}

type Peers = Pick<NotificationContext, "clients">;
type Page = { userIds: string[]; nextPageToken: string };

const MAX_RECIPIENTS = 10_000;

/**
 * Everybody whom it is for, each once, ids in lower case: at least one and at most 10,000. NOT_FOUND /
 * ORGANIZATION_NOT_FOUND, MEMBER_NOT_FOUND or ROLE_NOT_FOUND, FAILED_PRECONDITION / ORGANIZATION_SUSPENDED, NO_RECIPIENTS
 * or TOO_MANY_RECIPIENTS, UNAVAILABLE / DEPENDENCY_UNAVAILABLE.
 */
export async function resolveAudience(
  { clients }: Peers,
  scope: CallScope,
  { organizationId, userIds, role, allMembers }: Audience,
): Promise<string[]> {
  const found = new Set(userIds.map((userId) => userId.toLowerCase()));
  if (organizationId !== "") await requireMembers(clients, scope, organizationId, [...found]);
  const page = { organizationId, pageSize: LARGE_PAGE_SIZE };
  if (allMembers) {
    await addPages(found, async (pageToken) => {
      const request = { ...page, pageToken };
      const { members, nextPageToken } = await clients.organization.listMemberships(request, onward(scope));
      return { userIds: members.map(({ userId }) => userId), nextPageToken };
    });
  }
  if (role !== "") {
    await addPages(found, (pageToken) => clients.access.listUsersWithRole({ ...page, role, pageToken }, onward(scope)));
  }
  if (found.size === 0) throw fail(Code.FailedPrecondition, "NO_RECIPIENTS", "there is nobody whom it would be for");
  return [...found];
}

/** All of them are members, and the organization may be used. */
async function requireMembers(
  { organization }: Peers["clients"],
  scope: CallScope,
  organizationId: string,
  userIds: string[],
): Promise<void> {
  const { members, status } = await organization
    .filterMembers({ organizationId, userIds }, onward(scope))
    .catch(translateRefusal);
  if (status !== OrganizationStatus.ACTIVE) {
    throw fail(Code.FailedPrecondition, "ORGANIZATION_SUSPENDED", "the organization is suspended");
  }
  if (userIds.some((userId) => !(userId in members))) {
    throw fail(Code.NotFound, "MEMBER_NOT_FOUND", "a user is no member of the organization");
  }
}

/** Adds all pages of a list, or stops as soon as there are too many. */
async function addPages(found: Set<string>, readPage: (pageToken: string) => Promise<Page>): Promise<void> {
  let pageToken = "";
  do {
    const { userIds, nextPageToken } = await readPage(pageToken).catch(translateRefusal);
    for (const userId of userIds) found.add(userId);
    if (found.size > MAX_RECIPIENTS) {
      throw fail(Code.FailedPrecondition, "TOO_MANY_RECIPIENTS", "it would be for more than 10,000 people");
    }
    pageToken = nextPageToken;
  } while (pageToken !== "");
}

/** Tells the caller in our own words what organization or access refused. */
function translateRefusal(error: ConnectError): never {
  switch (reasonOf(error)) {
    case "ORGANIZATION_NOT_FOUND":
      throw fail(Code.NotFound, "ORGANIZATION_NOT_FOUND", "there is no such organization");
    case "ROLE_NOT_FOUND":
      throw fail(Code.NotFound, "ROLE_NOT_FOUND", "there is no such role");
    default:
      throw error;
  }
}
