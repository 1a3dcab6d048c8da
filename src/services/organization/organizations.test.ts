/** Organizations: made, changed, suspended and deleted. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { JsonObject } from "@bufbuild/protobuf";
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { Standing } from "../../../gen/concierge/access/v1/rights_pb.ts";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { MemberRole, OrganizationStatus } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { createOrganization } from "./organizations.ts";
import {
  answerOf,
  inDatabase,
  inOrganization,
  newMember,
  newOwner,
  newSlug,
  openTestDatabase,
  scope,
  toldOf,
} from "./testing.ts";

describe("organizations", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const operator = () => system.asService(OrganizationInternalService, "operator", "organization");
  const post = async (accessToken: string | undefined, method: string, message: object) => {
    const response = await fetch(`${system.publicUrl}/${OrganizationService.typeName}/${method}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        connection: "close",
        ...(accessToken && { authorization: `Bearer ${accessToken}` }),
      },
      body: JSON.stringify(message),
    });
    return { status: response.status, text: await response.text() };
  };

  test("whoever makes one owns it, sees it among their own, and two events tell of it", async () => {
    const owner = await system.newUser();
    const organizations = system.asUser(OrganizationService, owner.accessToken);
    const slug = newSlug();
    const { organization, consistencyToken } = await organizations.createOrganization({
      name: "Bäckerei & Söhne",
      slug,
    });
    const { organizationId, createdAt, $typeName, ...made } = organization!;
    const status = OrganizationStatus.ACTIVE;
    assert.deepEqual(made, { name: "Bäckerei & Söhne", slug, plan: "free", status, modulesEnabled: [] });
    assert.ok(createdAt && consistencyToken);

    const { organizations: own } = await organizations.listMyOrganizations({});
    assert.deepEqual(
      own.map(({ organization, role }) => [organization, role]),
      [[organization, MemberRole.OWNER]],
    );
    const { client } = inOrganization(system, owner, organizationId);
    assert.deepEqual((await client.getMyOrganization({})).organization, organization);
    assert.deepEqual((await operator().getOrganization({ organizationId })).organization, organization);
    const told = await inDatabase(system, "organization", (sql) => toldOf(sql, organizationId));
    assert.deepEqual(told, ["OrganizationCreated", "MemberChanged"]);
  });

  test("S-TEN-19 of 50 who want one slug at once one gets it; other cases and alphabets are refused", async () => {
    const { accessToken } = await system.newUser();
    const organizations = system.asUser(OrganizationService, accessToken);
    const slug = newSlug();
    const tries = Array.from({ length: 50 }, (_, number) => {
      return answerOf(
        organizations.createOrganization({ name: "Bakery", slug: number % 2 ? slug : slug.toUpperCase() }),
      );
    });
    const answers = await Promise.all(tries);
    const count = (answer: string) => answers.filter((each) => each === answer).length;
    assert.deepEqual([count("INVALID_REQUEST"), count("SLUG_TAKEN"), count("done")], [25, 24, 1]);

    for (const wrong of [
      "bаkery",
      "bakery ",
      "-bakery",
      "bakery-",
      "ba",
      "a".repeat(51),
      "bäckerei",
      "ｂakery",
      "a.b",
      "",
    ]) {
      assert.equal(
        await answerOf(organizations.createOrganization({ name: "Bakery", slug: wrong })),
        "INVALID_REQUEST",
      );
    }
  });

  test("administrators change name, slug and settings, each by its name only", async () => {
    const owner = await newOwner(system);
    const other = await newOwner(system);
    const slug = newSlug();
    const settings: JsonObject = { theme: { dark: true }, days: [1, 2.5, null], text: "ö" };
    const change = { name: "Café", slug, settings };
    const updated = await owner.client.updateOrganization({ ...change, updateMask: { paths: ["name", "settings"] } });
    assert.equal(updated.organization?.name, "Café");
    assert.notEqual(updated.organization?.slug, slug);
    assert.deepEqual(updated.settings, settings);
    const renamed = await owner.client.updateOrganization({ ...change, updateMask: { paths: ["slug"] } });
    assert.equal(renamed.organization?.slug, slug);
    const { organization, settings: stored } = await owner.client.getMyOrganization({});
    assert.deepEqual([organization, stored], [renamed.organization, settings]);

    const taken = other.client.updateOrganization({ slug, updateMask: { paths: ["slug"] } });
    assert.equal(await answerOf(taken), "SLUG_TAKEN");
    for (const paths of [["name"], ["slug"], ["name", "settings"]]) {
      assert.equal(await answerOf(owner.client.updateOrganization({ updateMask: { paths } })), "INVALID_REQUEST");
    }
    const cleared = await owner.client.updateOrganization({ updateMask: { paths: ["settings"] } });
    assert.deepEqual(cleared.settings, {});
    const told = await inDatabase(system, "organization", (sql) => toldOf(sql, owner.organizationId));
    assert.deepEqual(told.slice(2), ["OrganizationChanged", "OrganizationChanged"], "settings are nobody else's");
  });

  test("settings have a size and a depth", async () => {
    const { client, accessToken: _ } = await newOwner(system);
    const put = (settings: JsonObject) =>
      answerOf(client.updateOrganization({ settings, updateMask: { paths: ["settings"] } }));
    const ofLength = (length: number) => ({ text: "a".repeat(length - JSON.stringify({ text: "" }).length) });
    const ofDepth = (depth: number): JsonObject => (depth === 1 ? {} : { a: ofDepth(depth - 1) });
    assert.equal(await put(ofLength(16_384)), "done");
    assert.equal(await put(ofLength(16_385)), "SETTINGS_TOO_LARGE");
    assert.equal(await put(ofDepth(49)), "done");
    for (const depth of [100, 1_000]) assert.equal(await put(ofDepth(depth)), "MALFORMED_MESSAGE", `${depth}`);
    assert.equal(await put({ text: "\0" }), "INVALID_REQUEST");
  });

  test("S-TEN-07 neither creating nor updating reaches what others decide, in JSON or by the mask", async () => {
    const owner = await newOwner(system);
    const token = system.memberToken(owner, owner.organizationId);
    const before = (await owner.client.getMyOrganization({})).organization;
    const fields = {
      ...{ plan: "gold", status: "ORGANIZATION_STATUS_SUSPENDED", modulesEnabled: ["x"], modules_enabled: ["x"] },
      ...{ id: crypto.randomUUID(), organizationId: crypto.randomUUID(), createdAt: "2020-01-01T00:00:00Z" },
      ...{ role: "MEMBER_ROLE_OWNER", is_admin: true, version: 7, owner: crypto.randomUUID() },
    };
    for (const [name, value] of Object.entries(fields)) {
      const snake = name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      const named = await post(token, "UpdateOrganization", { [name]: value, updateMask: name });
      assert.equal(named.status, 400, `${name}: ${named.text}`);
      const masked = owner.client.updateOrganization({ updateMask: { paths: [snake] } });
      assert.equal(await answerOf(masked), "INVALID_FIELD_MASK", snake);
      const smuggled = await post(token, "UpdateOrganization", { [name]: value, name: "Bakery", updateMask: "name" });
      assert.ok([200, 400].includes(smuggled.status), `${name}: ${smuggled.text}`);
      const made = await post(owner.accessToken, "CreateOrganization", { [name]: value, name: "New", slug: newSlug() });
      assert.ok([200, 400].includes(made.status), `${name}: ${made.text}`);
    }
    assert.deepEqual((await owner.client.getMyOrganization({})).organization, before);
    const own = await system.asUser(OrganizationService, owner.accessToken).listMyOrganizations({});
    for (const { organization, role } of own.organizations) {
      assert.deepEqual([organization?.plan, organization?.status], ["free", OrganizationStatus.ACTIVE]);
      assert.deepEqual([organization?.modulesEnabled, role], [[], MemberRole.OWNER]);
    }
  });

  test("S-TEN-13 nobody gets anywhere without a session, whatever the body names", async () => {
    const { organizationId, userId } = await newOwner(system);
    for (const { name } of OrganizationService.methods) {
      const body = { organizationId, userId, invitationId: organizationId, branchId: organizationId };
      const { status, text } = await post(undefined, name, body);
      assert.deepEqual([status, JSON.parse(text).code], [401, "unauthenticated"], name);
    }
  });

  test("S-TEN-14 in a suspended organization nobody may do anything but leave, until it is resumed", async () => {
    const owner = await newOwner(system);
    const member = await newMember(system, owner);
    const { organizationId, client } = owner;
    assert.equal(await answerOf(member.client.getMyOrganization({})), "done");
    const { consistencyToken } = await operator().suspendOrganization({ organizationId });
    const isRefused = async (call: Promise<unknown>) => (await answerOf(call)) === "PERMISSION_MISSING";
    const headers = { "consistency-token": consistencyToken };
    assert.ok(await isRefused(client.getMyOrganization({}, { headers })), "by who knows of it, at once");
    await until("everybody to know", () => isRefused(member.client.getMyOrganization({})));
    const calls = [client.listMembers({}), client.deleteOrganization({}), client.createBranch({ name: "A" })];
    assert.deepEqual(await Promise.all(calls.map(isRefused)), [true, true, true]);
    const access = system.asService(AccessInternalService, "backend", "access");
    const { rights } = await access.getUserPermissions({ userId: owner.userId, organizationId });
    assert.deepEqual([rights?.standing, rights?.permissions], [Standing.SUSPENDED, []]);
    const { organizations } = await system.asUser(OrganizationService, owner.accessToken).listMyOrganizations({});
    assert.equal(organizations[0]?.organization?.status, OrganizationStatus.SUSPENDED);
    const asMember = system.asUser(OrganizationService, member.accessToken);
    assert.equal(await answerOf(asMember.leaveOrganization({ organizationId })), "done");
    const twice = await operator().suspendOrganization({ organizationId });
    const resumed = await operator().resumeOrganization({ organizationId });
    assert.ok(twice.consistencyToken);
    const now = { "consistency-token": resumed.consistencyToken };
    assert.equal(await answerOf(client.getMyOrganization({}, { headers: now })), "done");
    const told = await inDatabase(system, "organization", (sql) => toldOf(sql, organizationId));
    assert.equal(told.filter((name) => name === "OrganizationChanged").length, 2, "doing it twice tells nobody");
  });

  test("what was bought is said by operators and backends", async () => {
    const { organizationId, client } = await newOwner(system);
    const bought = { organizationId, plan: "gold", modulesEnabled: ["shop", "blog", "shop", "a_b"] };
    const { organization } = await operator().setPlan(bought);
    assert.deepEqual([organization?.plan, organization?.modulesEnabled], ["gold", ["a_b", "blog", "shop"]]);
    assert.deepEqual((await client.getMyOrganization({})).organization, organization);
    const unknown = { ...bought, organizationId: crypto.randomUUID() };
    assert.equal(await answerOf(operator().setPlan(unknown)), "ORGANIZATION_NOT_FOUND");
  });

  test("a deleted one is gone for its members, and its slug is not given again", async () => {
    const owner = await newOwner(system);
    const member = await newMember(system, owner);
    await owner.client.createBranch({ name: "Main street" });
    await owner.client.inviteMember({ email: "ann@example.com", role: MemberRole.MEMBER });
    const { slug, organizationId } = (await owner.client.getMyOrganization({})).organization!;
    assert.equal(await answerOf(member.client.deleteOrganization({})), "PERMISSION_MISSING");
    await owner.client.deleteOrganization({});

    for (const { accessToken } of [owner, member]) {
      const organizations = system.asUser(OrganizationService, accessToken);
      assert.deepEqual((await organizations.listMyOrganizations({})).organizations, []);
      assert.equal(await answerOf(organizations.createOrganization({ name: "Mine", slug })), "SLUG_TAKEN");
      assert.equal(await answerOf(organizations.leaveOrganization({ organizationId })), "ORGANIZATION_NOT_FOUND");
    }
    const ask = { organizationId, userId: owner.userId };
    const asked = [operator().getOrganization(ask), operator().getMembership(ask), operator().resumeOrganization(ask)];
    assert.deepEqual(await Promise.all(asked.map(answerOf)), Array(3).fill("ORGANIZATION_NOT_FOUND"));
    await until("the owner's rights to be gone", async () => {
      return (await answerOf(owner.client.getMyOrganization({}))) === "PERMISSION_MISSING";
    });
    const left = await inDatabase(system, "organization", (sql) => {
      return sql`
        select organization_id from memberships union select organization_id from invitations
        union select organization_id from branches`;
    });
    assert.ok(!left.some(({ organization_id: id }) => id === organizationId));
  });

  test("deleting, giving away, and all that owners are made or unmade by, take a login of the last five minutes", async () => {
    const owner = await newOwner(system);
    const [member, second] = [await newMember(system, owner), await newMember(system, owner, MemberRole.OWNER)];
    await system.advance(4 * 60_000);
    const { accessToken } = await system.asUser(AuthService).refreshToken({ refreshToken: owner.refreshToken });
    await system.advance(4 * 60_000);
    const { client } = inOrganization(system, { ...owner, accessToken }, owner.organizationId);
    const [{ MEMBER, ADMIN, OWNER }, { userId }, email] = [MemberRole, member, `${crypto.randomUUID()}@example.com`];
    const refused = {
      deleted: () => client.deleteOrganization({}),
      transferred: () => client.transferOwnership({ userId }),
      made: () => client.changeMemberRole({ userId, role: OWNER }),
      invited: () => client.inviteMember({ email, role: OWNER }),
      unmade: () => client.changeMemberRole({ userId: second.userId, role: ADMIN }),
      removed: () => client.removeMember({ userId: second.userId }),
    };
    for (const [name, call] of Object.entries(refused)) assert.equal(await answerOf(call()), "REAUTHENTICATE", name);
    assert.equal((await client.listInvitations({})).invitations.length, 0);
    assert.equal(await answerOf(client.inviteMember({ email, role: ADMIN })), "done");
    assert.equal(await answerOf(client.changeMemberRole({ userId, role: MEMBER })), "done");
    assert.equal(await answerOf(client.removeMember({ userId })), "done");
    const login = await system.asUser(AuthService).login({ email: owner.email, password: owner.password });
    const recent = inOrganization(system, { ...owner, ...login }, owner.organizationId);
    assert.equal(await answerOf(recent.client.removeMember({ userId: second.userId })), "done");
  });
});

test("nobody owns more than 20, also of those who make several at once", async () => {
  await using database = await openTestDatabase();
  const userId = crypto.randomUUID();
  const make = () => answerOf(createOrganization(database.db, scope, { userId }, { name: "Bakery", slug: newSlug() }));
  const answers = await Promise.all(Array.from({ length: 25 }, make));
  assert.equal(answers.filter((answer) => answer === "done").length, 20, answers.join());
  assert.equal(await make(), "TOO_MANY_ORGANIZATIONS");
  await database.sql`update memberships set role = 'admin' where user_id = ${userId} and organization_id = (
    select organization_id from memberships limit 1)`;
  await database.sql`delete from person_counters`;
  assert.equal(await make(), "done");
});
