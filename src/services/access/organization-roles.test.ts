/** Roles of organizations, made and given by their members: nobody gets more by it than they have. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationInternalService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { Code } from "../../errors.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { newMember, newOwner, type TestMember } from "../organization/testing.ts";
import { asOwner, backendOf, because, memberOf, operatorOf, told, toldOf } from "./testing.ts";

describe("roles of organizations", () => {
  let system: TestSystem;
  let owner: TestMember;
  let member: TestMember;

  before(async () => {
    system = await startTestSystem();
    owner = await newOwner(system);
    member = await newMember(system, owner);
  });

  after(() => system[Symbol.asyncDispose]());

  const newName = () => `r${crypto.randomUUID()}`;
  const paths = (...names: string[]) => ({ updateMask: { paths: names } });
  const rightsOf = async ({ userId, organizationId }: TestMember) =>
    (await backendOf(system).getUserPermissions({ userId, organizationId })).rights!;

  test("a role of an organization is made, listed, changed and deleted with its assignments; each time it is told", async () => {
    const access = memberOf(system, owner);
    const name = newName();
    const permissions = ["roles:read", "members:invite"];
    const { role } = await access.createRole({ name, description: "Helps", permissions });
    assert.deepEqual([role!.permissions, role!.organizationId], [permissions.toSorted(), owner.organizationId]);

    const { roles } = await access.listRoles({});
    assert.deepEqual(
      roles.slice(0, 3).map((each) => each.name),
      ["admin", "member", "owner"],
    );
    assert.deepEqual(
      roles.find((each) => each.name === name),
      role,
    );
    assert.ok(!roles.some((each) => each.name === "user"));

    await access.assignRole({ userId: member.userId, role: name });
    const changed = await access.updateRole({
      name,
      permissions: ["roles:read"],
      description: "x",
      ...paths("permissions"),
    });
    assert.deepEqual([changed.role!.permissions, changed.role!.description], [["roles:read"], "Helps"]);
    await access.deleteRole({ name });
    assert.ok(!(await access.listRoles({})).roles.some((each) => each.name === name));
    assert.deepEqual((await access.listAssignments({ userId: member.userId })).assignments, []);
    const facts = (await told(system, owner.organizationId)).filter(({ fact }) => fact.name === name);
    assert.deepEqual(
      facts.map(({ fact }) => fact.deleted),
      [false, false, true],
    );
    await assert.rejects(access.deleteRole({ name }), because("ROLE_NOT_FOUND"));
    await assert.rejects(access.updateRole({ name, ...paths("description") }), because("ROLE_NOT_FOUND"));
  });

  test("a name means one role: not that of the platform, of a built-in role or of another one there", async () => {
    const stranger = await newOwner(system);
    const [own, others] = [memberOf(system, owner), memberOf(system, stranger)];
    const name = newName();
    await own.createRole({ name });
    await others.createRole({ name });
    await assert.rejects(own.createRole({ name }), because("ROLE_EXISTS"));
    for (const builtIn of ["owner", "admin", "member", "user", "artist"]) {
      await assert.rejects(own.createRole({ name: builtIn }), because("ROLE_EXISTS"));
    }
    const ofPlatform = newName();
    await operatorOf(system).createRole({ name: ofPlatform });
    await assert.rejects(own.createRole({ name: ofPlatform }), because("ROLE_EXISTS"));
  });

  test("an organization's role keeps its meaning when one of the platform gets its name", async () => {
    const own = memberOf(system, owner);
    const { userId } = await newMember(system, owner);
    const name = newName();
    await own.createRole({ name, permissions: ["roles:read"] });
    await operatorOf(system).createRole({ name });
    await assert.rejects(operatorOf(system).createRole({ name }), because("ROLE_EXISTS"));
    await own.assignRole({ userId, role: name });
    const question = { userId, permission: "roles:read" };
    const { sources } = await own.explainPermission(question);
    assert.deepEqual(
      sources.map(({ role }) => role),
      [name],
    );
    const named = (await own.listRoles({})).roles.filter((role) => role.name === name);
    assert.deepEqual(
      named.map((role) => role.permissions),
      [["roles:read"]],
    );
    await own.deleteRole({ name });
    assert.equal((await own.explainPermission(question)).sources.length, 0);
  });

  test("no member gives a role of the platform that allows nothing: it means what the product makes of it", async () => {
    const { userId, organizationId } = owner;
    const role = newName();
    await operatorOf(system).createRole({ name: role });
    const given = memberOf(system, owner).assignRole({ userId, role });
    await assert.rejects(given, because("PERMISSION_NOT_HELD"));
    await operatorOf(system).assignRole({ userId, organizationId, role });
    await memberOf(system, owner).unassignRole({ userId, role });
  });

  test("S-TEN-09 members give, take, make and change only what they hold themselves", async () => {
    const admin = await newMember(system, owner, MemberRole.ADMIN);
    const boss = memberOf(system, owner);
    const assistant = memberOf(system, admin);
    const [powerful, harmless] = [newName(), newName()];
    await boss.createRole({ name: powerful, permissions: ["organization:delete"] });
    await boss.createRole({ name: harmless, permissions: ["roles:assign", "roles:read"] });
    const { userId } = admin;
    const permissions = ["organization:delete"];
    const permission = "organization:delete";
    const before = await told(system, owner.organizationId);
    for (const call of [
      () => assistant.assignRole({ userId, role: powerful }),
      () => assistant.unassignRole({ userId, role: powerful }),
      () => assistant.grantPermission({ userId, permission }),
      () => assistant.revokePermission({ userId, permission }),
      () => assistant.createRole({ name: newName(), permissions }),
      () => assistant.updateRole({ name: harmless, permissions, ...paths("permissions") }),
      () => assistant.updateRole({ name: powerful, permissions: [], ...paths("permissions") }),
      () => assistant.updateRole({ name: powerful, description: "x", ...paths("description") }),
      () => assistant.deleteRole({ name: powerful }),
    ]) {
      await assert.rejects(call(), because("PERMISSION_NOT_HELD"));
      await assert.rejects(call(), { code: Code.PermissionDenied });
    }
    for (const role of ["owner", "admin", "member"]) {
      for (const call of [assistant.assignRole, assistant.unassignRole, boss.assignRole, boss.unassignRole]) {
        await assert.rejects(call({ userId, role }), because("ROLE_BUILT_IN"));
      }
    }
    assert.deepEqual(await told(system, owner.organizationId), before);
    assert.ok(!(await rightsOf(admin)).permissions.includes("organization:delete"));

    await assistant.assignRole({ userId: member.userId, role: harmless });
    const helper = memberOf(system, member);
    await assert.rejects(
      helper.grantPermission({ userId: member.userId, permission: "members:remove" }),
      because("PERMISSION_NOT_HELD"),
    );
    await helper.grantPermission({ userId, permission: "roles:read" });
    const { consistencyToken } = await assistant.unassignRole({ userId: member.userId, role: harmless });
    const headers = { "consistency-token": consistencyToken };
    const again = helper.grantPermission({ userId, permission: "roles:read" }, { headers });
    await assert.rejects(again, because("PERMISSION_MISSING"));
  });

  test("S-TEN-10 wildcards, unknown permissions and more than 200 are refused", async () => {
    const access = memberOf(system, owner);
    const many = Array.from({ length: 201 }, (_, index) => `thing:a${index}`);
    for (const permissions of [["*"], ["roles:*"], ["*:*"], ["roles"], ["Roles:read"], ["roles:read "], many]) {
      await assert.rejects(access.createRole({ name: newName(), permissions }), because("INVALID_REQUEST"));
      await assert.rejects(operatorOf(system).createRole({ name: newName(), permissions }), because("INVALID_REQUEST"));
    }
    for (const permissions of [["roles:everything"], ["roles:read", "no:such"]]) {
      await assert.rejects(access.createRole({ name: newName(), permissions }), because("UNKNOWN_PERMISSION"));
      await assert.rejects(
        operatorOf(system).createRole({ name: newName(), permissions }),
        because("UNKNOWN_PERMISSION"),
      );
    }
    const grant = { userId: member.userId, permission: "no:such" };
    await assert.rejects(access.grantPermission(grant), because("UNKNOWN_PERMISSION"));
    await assert.rejects(access.updateRole({ name: "owner", ...paths("name") }), because("INVALID_FIELD_MASK"));
  });

  test("S-TEN-11 access can neither give, take, change nor delete owner, admin and member", async () => {
    const access = memberOf(system, owner);
    const { userId, organizationId } = owner;
    for (const role of ["owner", "admin", "member"]) {
      for (const call of [
        () => access.updateRole({ name: role, permissions: [], ...paths("permissions") }),
        () => access.deleteRole({ name: role }),
        () => access.unassignRole({ userId, role }),
        () => operatorOf(system).unassignRole({ userId, role, organizationId }),
        () => operatorOf(system).assignRole({ userId: member.userId, role, organizationId }),
      ]) {
        await assert.rejects(call(), because("ROLE_BUILT_IN"));
      }
    }
    assert.ok((await rightsOf(owner)).roles.includes("owner"));
  });

  test("only current members are given something, and only in open branches of the organization", async () => {
    const access = memberOf(system, owner);
    const stranger = await newOwner(system);
    const role = newName();
    await access.createRole({ name: role, permissions: ["roles:read"] });
    const { branch } = await owner.client.createBranch({ name: newName() });
    const { branch: foreign } = await stranger.client.createBranch({ name: newName() });
    const { userId } = member;
    await assert.rejects(access.assignRole({ userId: stranger.userId, role }), because("MEMBER_NOT_FOUND"));
    const inside = { userId: stranger.userId, role, organizationId: owner.organizationId };
    await assert.rejects(backendOf(system).assignRole(inside), because("USER_NOT_FOUND"));
    const nowhere = { userId, role, organizationId: crypto.randomUUID() };
    await assert.rejects(backendOf(system).assignRole(nowhere), because("ORGANIZATION_NOT_FOUND"));
    const platform = { userId, role: newName(), branchId: branch!.branchId };
    await assert.rejects(backendOf(system).assignRole(platform), because("BRANCH_NOT_FOUND"));
    for (const branchId of [foreign!.branchId, crypto.randomUUID()]) {
      await assert.rejects(access.assignRole({ userId, role, branchId }), because("BRANCH_NOT_FOUND"));
    }
    // a role of another organization is none here
    await assert.rejects(
      memberOf(system, stranger).assignRole({ userId: stranger.userId, role }),
      because("ROLE_NOT_FOUND"),
    );

    const { branchId } = branch!;
    await access.assignRole({ userId: userId.toUpperCase(), role, branchId: branchId.toUpperCase() });
    const rights = await rightsOf(member);
    assert.deepEqual(
      rights.branches.map((each) => [each.branchId, each.permissions]),
      [[branchId, ["roles:read"]]],
    );
    assert.ok(!rights.permissions.includes("roles:read"));
    await owner.client.closeBranch({ branchId });
    await assert.rejects(access.assignRole({ userId, role, branchId }), because("BRANCH_NOT_FOUND"));
    await access.unassignRole({ userId, role, branchId });
    assert.deepEqual((await access.listAssignments({ userId })).assignments, []);
  });

  test("what is given is listed page by page, and no page token is good for another list", async () => {
    const stranger = await newOwner(system);
    const access = memberOf(system, stranger);
    const { userId } = stranger;
    const names = ["branches:read", "members:read", "organization:read", "profiles:read", "roles:read"];
    for (const permission of names) await access.grantPermission({ userId, permission });
    await access.grantPermission({ userId, permission: names[0]! });
    const first = await access.listAssignments({ pageSize: 2 });
    const second = await access.listAssignments({ pageSize: 4, pageToken: first.nextPageToken });
    const all = [...first.assignments, ...second.assignments];
    assert.deepEqual(
      all.map(({ what }) => what.value),
      names,
    );
    assert.ok(all.every((each) => each.assignedBy === userId && each.userId === userId && each.assignedAt));
    assert.equal(second.nextPageToken, "");

    const { nextPageToken: pageToken } = first;
    for (const [client, request] of [
      [memberOf(system, owner), { pageToken }],
      [access, { pageToken, userId }],
      [access, { pageToken: `${pageToken}x` }],
      [access, { pageToken: "rubbish" }],
    ] as const) {
      await assert.rejects(client.listAssignments(request), because("INVALID_PAGE_TOKEN"), "S-TEN-04");
    }
    assert.deepEqual((await memberOf(system, owner).listAssignments({ userId })).assignments, [], "S-TEN-03");
  });

  test("an organization has at most 200 roles, and a member at most 200 assignments", async () => {
    const { organizationId, userId } = await newOwner(system);
    const access = system.asMember(AccessService, { ...owner, userId }, organizationId);
    await asOwner(
      system,
      (sql) => sql`
      insert into roles (id, organization_id, name, description, permissions)
      select gen_random_uuid(), ${organizationId}, 'role-' || n, '', '{}' from generate_series(1, 199) n`,
    );
    await access.createRole({ name: "last" });
    await assert.rejects(access.createRole({ name: "too-many" }), because("TOO_MANY_ROLES"));
    const organizations = system.asService(OrganizationInternalService, "operator", "organization");
    const { membershipId } = await organizations.getMembership({ userId, organizationId });
    await asOwner(
      system,
      (sql) => sql`
      insert into assignments (id, user_id, organization_id, membership_id, role_id, assigned_by)
      select id, ${userId}, ${organizationId}, ${membershipId}, id, 'test' from roles
      where organization_id = ${organizationId} and name <> 'last'`,
    );
    await access.assignRole({ userId, role: "last" });
    await access.assignRole({ userId, role: "last" });
    const grant = access.grantPermission({ userId, permission: "roles:read" });
    await assert.rejects(grant, because("TOO_MANY_ASSIGNMENTS"));
    assert.deepEqual(await toldOf(system, userId, organizationId), ["RoleAssigned last"]);
  });
});
