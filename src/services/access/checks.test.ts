/** Questions of other services and of people: what somebody may do, whether, and why. Who holds what: model.test.ts. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  AccessInternalService,
  AccessService,
  PermissionDenial,
} from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { Standing } from "../../../gen/concierge/access/v1/rights_pb.ts";
import { OrganizationInternalService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { newMember, newOwner, type TestMember } from "../organization/testing.ts";
import { backendOf, because, memberOf, operatorOf } from "./testing.ts";

describe("checks", () => {
  let system: TestSystem;
  let owner: TestMember;
  let member: TestMember;

  before(async () => {
    system = await startTestSystem();
    owner = await newOwner(system);
    member = await newMember(system, owner);
  });

  after(() => system[Symbol.asyncDispose]());

  const newPermission = async () => {
    const name = `things:a${crypto.randomUUID()}`.slice(0, 40);
    const { consistencyToken } = await operatorOf(system).createPermission({ name, description: "Does things" });
    return { name, known: { headers: { "consistency-token": consistencyToken } } };
  };

  test("what does not exist is told apart from what is not held", async () => {
    const permission = "members:read";
    const { organizationId } = owner;
    const check = backendOf(system).checkPermission;
    const nobody = crypto.randomUUID();
    assert.equal((await check({ userId: member.userId.toUpperCase(), organizationId, permission })).allowed, true);
    assert.equal((await check({ userId: member.userId, organizationId, permission: "no such thing" })).allowed, false);
    const foreign = { userId: member.userId, organizationId: nobody, permission };
    await assert.rejects(check(foreign), because("ORGANIZATION_NOT_FOUND"));
    await assert.rejects(check({ userId: nobody, organizationId, permission }), because("USER_NOT_FOUND"));
    await assert.rejects(check({ userId: nobody, permission }), because("USER_NOT_FOUND"));
    const checks = [
      { userId: member.userId, organizationId, permission },
      foreign,
      { userId: nobody, organizationId, permission },
      { userId: member.userId, permission },
      { userId: member.userId, organizationId, permission: "roles:read" },
    ];
    const { results } = await backendOf(system).batchCheckPermissions({ checks });
    assert.deepEqual(
      results.map(({ allowed, notFound }) => [allowed, notFound]),
      [
        [true, false],
        [false, true],
        [false, true],
        [false, false],
        [false, false],
      ],
    );
  });

  test("a permission of the product is made once; owners hold it at once, members when it is given", async () => {
    const { name, known } = await newPermission();
    await assert.rejects(operatorOf(system).createPermission({ name }), because("PERMISSION_EXISTS"));
    await assert.rejects(operatorOf(system).createPermission({ name: "roles:read" }), because("PERMISSION_EXISTS"));
    const { permissions } = await system.asUser(AccessService, member.accessToken).listPermissions({});
    assert.equal(permissions.find((each) => each.name === name)!.description, "Does things");
    assert.deepEqual(
      permissions,
      permissions.toSorted((one, other) => (one.name < other.name ? -1 : 1)),
    );
    const { organizationId } = owner;
    const holds = async ({ userId }: TestMember) =>
      (await backendOf(system).checkPermission({ userId, organizationId, permission: name }, known)).allowed;
    assert.deepEqual([await holds(owner), await holds(member)], [true, false]);
  });

  test("on the platform, what was given there counts there and nowhere else; admins hold everything", async () => {
    const { name } = await newPermission();
    const role = `r${crypto.randomUUID()}`;
    await operatorOf(system).createRole({ name: role, permissions: [name] });
    // Nobody else's: an administrator holds what others of these tests do not.
    const { userId, organizationId } = await newMember(system, owner);
    const rightsOf = async (id: string, token: string) => {
      const headers = { "consistency-token": token };
      return (await backendOf(system).getUserPermissions({ userId, organizationId: id }, { headers })).rights!;
    };
    const { consistencyToken } = await backendOf(system).assignRole({ userId, role });
    const platform = await rightsOf("", consistencyToken);
    assert.deepEqual([platform.roles, platform.permissions], [[role, "user"], [name]]);
    const here = await rightsOf(organizationId, consistencyToken);
    assert.deepEqual([here.roles, here.permissions.includes(name)], [["member"], false]);
    const taken = await backendOf(system).unassignRole({ userId, role });
    assert.deepEqual((await rightsOf("", taken.consistencyToken)).permissions, []);

    await operatorOf(system).bootstrapAdmin({ userId });
    await until("the admin is known", async () => (await rightsOf("", "")).permissions.includes("organization:delete"));
    assert.equal((await rightsOf(organizationId, "")).permissions.includes("organization:delete"), false);
    const { sources } = await operatorOf(system).explainPermission({ userId, permission: name });
    assert.deepEqual(
      sources.map(({ role, builtIn }) => [role, builtIn]),
      [["admin", true]],
    );
  });

  test("people see what they may do where their token says, and nothing where it names nothing of theirs", async () => {
    const mine = (organizationId: string) =>
      system.asMember(AccessService, member, organizationId).getMyPermissions({});
    const { organizationId, rights } = await mine(member.organizationId);
    assert.deepEqual([organizationId, rights!.roles], [member.organizationId, ["member"]]);
    const stranger = await newOwner(system);
    const nothing = [
      await system.asUser(AccessService, member.accessToken).getMyPermissions({}),
      await mine(stranger.organizationId),
      await mine(crypto.randomUUID()),
    ];
    for (const answer of nothing) {
      const { standing, permissions } = answer.rights!;
      assert.deepEqual([answer.organizationId, standing, permissions], ["", Standing.NONE, []]);
    }
  });

  test("S-TEN-14 nobody holds anything in an organization that is suspended, and it is told why", async () => {
    const { organizationId, userId } = await newOwner(system);
    const organizations = system.asService(OrganizationInternalService, "operator", "organization");
    const { consistencyToken } = await organizations.suspendOrganization({ organizationId });
    const known = { headers: { "consistency-token": consistencyToken } };
    const question = { userId, organizationId, permission: "roles:read" };
    assert.equal((await backendOf(system).checkPermission(question, known)).allowed, false);
    assert.equal((await backendOf(system).explainPermission(question)).denial, PermissionDenial.SUSPENDED);
    const { userIds } = await backendOf(system).listUsersWithPermission(question, known);
    assert.deepEqual(userIds, []);
  });

  test("members who may see roles are told why somebody holds a permission, of members only", async () => {
    const access = memberOf(system, owner);
    const { userId } = member;
    await access.grantPermission({ userId, permission: "profiles:read" });
    const { allowed, sources } = await access.explainPermission({ userId, permission: "profiles:read" });
    const [source] = sources;
    assert.deepEqual([allowed, source!.role, source!.assignedBy, source!.builtIn], [true, "", owner.userId, false]);
    assert.ok(source!.assignedAt);
    const stranger = await newOwner(system);
    const about = access.explainPermission({ userId: stranger.userId, permission: "profiles:read" });
    await assert.rejects(about, because("MEMBER_NOT_FOUND"));
    await assert.rejects(
      memberOf(system, member).explainPermission({ userId, permission: "roles:read" }),
      because("PERMISSION_MISSING"),
    );
  });

  test("S-INJ-01 SQL in a string field is text like any other", async () => {
    const access = memberOf(system, owner);
    const { organizationId, userId } = owner;
    for (const text of ["' or true --", "'; drop table roles; --", "\\'; select pg_sleep(9) --", "$1", "%s"]) {
      const name = `r${crypto.randomUUID()}`;
      const { role } = await access.createRole({ name, description: text });
      assert.equal(role!.description, text);
      assert.equal(
        (await backendOf(system).checkPermission({ userId, organizationId, permission: text })).allowed,
        false,
      );
      await assert.rejects(access.assignRole({ userId, role: text }), because("INVALID_REQUEST"));
      await assert.rejects(access.listAssignments({ pageToken: text }), because("INVALID_PAGE_TOKEN"));
    }
  });

  test("services that the contract does not list may not ask", async () => {
    const stranger = system.asService(AccessInternalService, "user", "access");
    const { userId, organizationId } = member;
    const check = stranger.checkPermission({ userId, organizationId, permission: "roles:read" });
    await assert.rejects(check, because("CALLER_NOT_ALLOWED"));
  });
});
