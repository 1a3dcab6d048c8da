/** Lists: pages in order, of the own organization only, with tokens that are good for their list alone. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { filterMembers } from "./member-lists.ts";
import { answerOf, inDatabase, newOwner, openTestDatabase, scope, type TestMember } from "./testing.ts";

interface Page {
  nextPageToken: string;
}

describe("lists of an organization", () => {
  let system: TestSystem;
  let one: TestMember;
  let other: TestMember;

  before(async () => {
    system = await startTestSystem();
    [one, other] = [await newOwner(system), await newOwner(system)];
    for (const [{ organizationId, client, userId }, count] of [
      [one, 7],
      [other, 3],
    ] as const) {
      // Of one moment, so that the order needs more than the time.
      await inDatabase(system, "organization", async (sql) => {
        await sql`
          insert into memberships (organization_id, user_id, role, since)
          select ${organizationId}, gen_random_uuid(), 'member', now() from generate_series(1, ${count - 1})`;
        await sql`
          insert into invitations (id, organization_id, email, email_key, role, invited_by, expires_at)
          select gen_random_uuid(), ${organizationId}, number || '@example.com', number || '@example.com', 'member', ${userId},
            now() + interval '1 day' from generate_series(1, ${count}) number`;
      });
      for (let number = 0; number < count; number++) await client.createBranch({ name: `${"é".repeat(90)}${number}` });
    }
  });

  after(() => system[Symbol.asyncDispose]());

  const operator = () => system.asService(OrganizationInternalService, "operator", "organization");
  const lists = {
    members: async ({ client }: TestMember, page: { pageToken: string; pageSize: number }) => {
      const { members, nextPageToken } = await client.listMembers(page);
      return { ids: members.map(({ userId }) => userId), nextPageToken };
    },
    invitations: async ({ client }: TestMember, page: { pageToken: string; pageSize: number }) => {
      const { invitations, nextPageToken } = await client.listInvitations(page);
      return { ids: invitations.map(({ invitationId }) => invitationId), nextPageToken };
    },
    branches: async ({ client }: TestMember, page: { pageToken: string; pageSize: number }) => {
      const { branches, nextPageToken } = await client.listBranches(page);
      return { ids: branches.map(({ branchId }) => branchId), nextPageToken };
    },
    "all branches": async ({ client }: TestMember, page: { pageToken: string; pageSize: number }) => {
      const { branches, nextPageToken } = await client.listBranches({ ...page, includeClosed: true });
      return { ids: branches.map(({ branchId }) => branchId), nextPageToken };
    },
    memberships: async ({ organizationId }: TestMember, page: { pageToken: string; pageSize: number }) => {
      const { members, nextPageToken } = await operator().listMemberships({ ...page, organizationId });
      return { ids: members.map(({ userId }) => userId), nextPageToken };
    },
    "plain members": async ({ organizationId }: TestMember, page: { pageToken: string; pageSize: number }) => {
      const asked = { ...page, organizationId, role: MemberRole.MEMBER };
      const { members, nextPageToken } = await operator().listMemberships(asked);
      return { ids: members.map(({ userId }) => userId), nextPageToken };
    },
  };
  type List = keyof typeof lists;

  const readAll = async (list: List, member: TestMember, pageSize: number) => {
    const ids: string[] = [];
    for (let pageToken = ""; ; ) {
      const page: { ids: string[] } & Page = await lists[list](member, { pageToken, pageSize });
      ids.push(...page.ids);
      if (page.nextPageToken === "") return ids;
      pageToken = page.nextPageToken;
    }
  };

  for (const list of Object.keys(lists) as List[]) {
    test(`S-TEN-03 ${list}: every one of the own organization, once and in one order, whatever the size of pages`, async () => {
      const expected = list === "plain members" ? [6, 2] : [7, 3];
      const [ids, others] = [await readAll(list, one, 0), await readAll(list, other, 2)];
      assert.deepEqual([ids.length, others.length], expected);
      assert.deepEqual(
        ids.filter((id) => others.includes(id)),
        [],
      );
      for (const pageSize of [1, 3, 7]) assert.deepEqual(await readAll(list, one, pageSize), ids);
    });
  }

  test("S-TEN-04 a token is good for its list only: not for another organization, query or person, and not if it was touched", async () => {
    const tokens = new Map<List, string>();
    for (const list of Object.keys(lists) as List[]) {
      tokens.set(list, (await lists[list](one, { pageToken: "", pageSize: 2 })).nextPageToken);
    }
    const refused = async (list: List, member: TestMember, pageToken: string) =>
      assert.equal(await answerOf(lists[list](member, { pageToken, pageSize: 2 })), "INVALID_PAGE_TOKEN", list);
    for (const [list, token] of tokens) {
      await refused(list, other, token);
      // Members are the same list for an operator as for members.
      const isSame = (name: List) =>
        name === list || (["members", "memberships"].includes(name) && ["members", "memberships"].includes(list));
      for (const [name, foreign] of tokens) if (!isSame(name)) await refused(list, one, foreign);
      const text = Buffer.from(token, "base64url").toString();
      const middle = Math.floor(text.length / 2);
      const touched = text.slice(0, middle) + (text[middle] === "1" ? "2" : "1") + text.slice(middle + 1);
      for (const wrong of [
        Buffer.from(touched).toString("base64url"),
        `${token}A`,
        token.slice(1),
        "e30",
        "W10",
        "!",
      ]) {
        await refused(list, one, wrong);
      }
      assert.equal(await answerOf(lists[list](one, { pageToken: token, pageSize: 2 })), "done");
    }
  });

  test("S-TEN-04 whose organizations are listed is not the token's to say", async () => {
    const organizations = (user: TestMember) => system.asUser(OrganizationService, user.accessToken);
    await organizations(one).createOrganization({ name: "Second", slug: `s-${crypto.randomUUID()}` });
    const first = await organizations(one).listMyOrganizations({ pageSize: 1 });
    assert.deepEqual(
      first.organizations.map(({ organization }) => organization?.name),
      ["Second"],
    );
    const pageToken = first.nextPageToken;
    const next = await organizations(one).listMyOrganizations({ pageSize: 1, pageToken });
    assert.deepEqual(
      next.organizations.map(({ organization }) => organization?.organizationId),
      [one.organizationId],
    );
    assert.equal(next.nextPageToken, "");
    assert.equal(await answerOf(organizations(other).listMyOrganizations({ pageToken })), "INVALID_PAGE_TOKEN");
    const asked = { userId: one.userId.toUpperCase(), pageSize: 1 };
    const told = await operator().listUserOrganizations(asked);
    assert.deepEqual(told.organizations, first.organizations);
    const unknown = operator().listMemberships({ organizationId: crypto.randomUUID() });
    assert.equal(await answerOf(unknown), "ORGANIZATION_NOT_FOUND");
  });
});

test("of some people those are told who are members, with their memberships, the status and the open branches", async () => {
  await using database = await openTestDatabase();
  const { db, sql } = database;
  const [ann, bob, stranger] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
  const [organizationId, other] = [await database.found(ann), await database.found(stranger)];
  await database.put(organizationId, bob, "member");
  const [open, closed] = [crypto.randomUUID(), crypto.randomUUID()];
  await sql`insert into branches (id, organization_id, name, closed_at) values
    (${open}, ${organizationId}, 'Shop', null), (${closed}, ${organizationId}, 'Kiosk', now())`;
  const filter = (userIds: string[]) =>
    filterMembers(db, scope, { organizationId: organizationId.toUpperCase(), userIds });
  const [row] = await sql`select id from memberships where organization_id = ${organizationId} and user_id = ${bob}`;
  const found = { members: { [bob]: row!.id }, status: "active", branchIds: [open] };
  assert.deepEqual(await filter([bob.toUpperCase(), stranger]), found);
  await sql`update organizations set status = 'suspended' where id = ${organizationId}`;
  assert.deepEqual(await filter([]), { members: {}, status: "suspended", branchIds: [open] });
  const everybody = Array.from({ length: 9_998 }, () => crypto.randomUUID());
  assert.equal(Object.keys((await filter([...everybody, ann, bob])).members).length, 2);
  await sql`update organizations set status = 'deleted' where id = ${other}`;
  const gone = filterMembers(db, scope, { organizationId: other, userIds: [stranger] });
  assert.equal(await answerOf(gone), "ORGANIZATION_NOT_FOUND");
});
