import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessInternalService, AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { connectService } from "../../client/service-client.ts";
import { Code, reasonOf } from "../../errors.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { startTestService, startTestSystem, type TestSystem } from "../../testing/system.ts";
import { auth } from "../auth/service.ts";
import { access } from "./service.ts";
import { asOwner, toldOf } from "./testing.ts";

describe("assignments", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access] });
  });

  after(() => system[Symbol.asyncDispose]());

  const operator = () => system.asService(AccessInternalService, "operator", "access");
  const backend = () => system.asService(AccessInternalService, "backend", "access");

  async function newRole(): Promise<string> {
    const name = `r${crypto.randomUUID()}`;
    await operator().createRole({ name });
    return name;
  }

  test("a new account has the role user and no row", async () => {
    const { userId, accessToken } = await system.newUser();

    assert.deepEqual((await system.asUser(AccessService, accessToken).getMyRoles({})).roles, ["user"]);
    for (const caller of ["backend", "operator"]) {
      const { roles } = await system.asService(AccessInternalService, caller, "access").getUserRoles({ userId });
      assert.deepEqual(roles, ["user"]);
    }
    assert.deepEqual(await stored(system, userId), { assignments: [], events: [] });
  });

  test("roles are given and taken; a repetition changes nothing and tells nobody", async () => {
    const { userId, accessToken } = await system.newUser();
    const role = await newRole();

    await operator().assignRole({ userId, role });
    await backend().assignRole({ userId, role });
    const other = await newRole();
    await backend().assignRole({ userId, role: other });
    const { roles } = await operator().getUserRoles({ userId });
    assert.deepEqual(roles, [role, other, "user"].sort());
    assert.deepEqual((await system.asUser(AccessService, accessToken).getMyRoles({})).roles, roles);
    const { assignments } = await stored(system, userId);
    assert.deepEqual(assignments, [`${role} by operator`, `${other} by backend`].sort());

    await backend().unassignRole({ userId, role });
    await operator().unassignRole({ userId, role });
    await operator().assignRole({ userId, role });

    assert.deepEqual(await stored(system, userId), {
      assignments: [`${role} by operator`, `${other} by backend`].sort(),
      events: [`RoleAssigned ${role}`, `RoleAssigned ${other}`, `RoleUnassigned ${role}`, `RoleAssigned ${role}`],
    });
  });

  test("S-CFG-05 built-in roles are constants: nobody can give or take them, so there is no first admin by accident", async () => {
    const { userId } = await system.newUser();

    for (const role of ["admin", "artist", "user"]) {
      for (const caller of [operator(), backend()]) {
        for (const call of [caller.assignRole, caller.unassignRole]) {
          await assert.rejects(call({ userId, role }), (error) => reasonOf(error) === "ROLE_BUILT_IN");
          await assert.rejects(call({ userId, role }), { code: Code.InvalidArgument });
        }
      }
    }
    assert.deepEqual((await operator().getUserRoles({ userId })).roles, ["user"]);
  });

  test("what does not exist is told apart: the role, the user", async () => {
    const { userId } = await system.newUser();
    const nobody = crypto.randomUUID();
    const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;

    await assert.rejects(operator().assignRole({ userId, role: "no-such-role" }), because("ROLE_NOT_FOUND"));
    await assert.rejects(operator().assignRole({ userId: nobody, role: await newRole() }), because("USER_NOT_FOUND"));
    await assert.rejects(operator().getUserRoles({ userId: nobody }), because("USER_NOT_FOUND"));
    await assert.rejects(operator().getUserRoles({ userId: nobody }), { code: Code.NotFound });
    await operator().unassignRole({ userId: nobody, role: await newRole() });
    assert.deepEqual(await stored(system, nobody), { assignments: [], events: [] });
  });

  test("one role given 20 times at once is one row and one event, however the id is spelled", async () => {
    const { userId } = await system.newUser();
    const role = await newRole();
    const spellings = [userId, userId.toUpperCase()];

    const calls = Array.from({ length: 20 }, (_, n) => operator().assignRole({ userId: spellings[n % 2]!, role }));
    await Promise.all(calls);

    assert.deepEqual(await stored(system, userId), {
      assignments: [`${role} by operator`],
      events: [`RoleAssigned ${role}`],
    });
    assert.deepEqual((await operator().getUserRoles({ userId: userId.toUpperCase() })).roles, [role, "user"]);
  });

  test("a service that the contract does not list may not change roles", async () => {
    const { userId } = await system.newUser();
    const stranger = system.asService(AccessInternalService, "user", "access");

    await assert.rejects(stranger.assignRole({ userId, role: "admin" }), { code: Code.PermissionDenied });
    assert.deepEqual((await operator().getUserRoles({ userId })).roles, ["user"]);
  });

  test("while auth is away nothing is stored and callers hear UNAVAILABLE; then it works again", async () => {
    await using authAlone = await startTestService(auth);
    await authAlone.server.ready;
    await using edge = await startFaultProxy({ host: "127.0.0.1", port: Number(new URL(authAlone.internalUrl).port) });
    const keys = authAlone.serviceKeys.filter((key) => key.callee === "access" || key.caller === "access");
    const variables = {
      CONCIERGE_ACCESS_AUTH_URL: edge.url,
      CONCIERGE_ACCESS_SERVICE_KEYS: JSON.stringify({ keys }),
    };
    await using accessAlone = await startTestService(access, { variables });
    await accessAlone.server.ready;
    // both clocks stand still since their own start; tokens between the two need one hour
    await authAlone.advance(accessAlone.clock.now() - authAlone.clock.now());
    using connection = connectService({
      baseUrl: accessAlone.internalUrl,
      key: authAlone.keyOf("operator", "access"),
      clock: accessAlone.clock,
    });
    const client = connection.client(AccessInternalService);
    await client.createRole({ name: "support" });

    // before the registration: access answers for an account that it has heard of
    edge.cut();
    const { userId } = await authAlone.newUser();
    for (const call of [() => client.getUserRoles({ userId }), () => client.assignRole({ userId, role: "support" })]) {
      await assert.rejects(call(), (error) => reasonOf(error) === "DEPENDENCY_UNAVAILABLE");
      await assert.rejects(call(), { code: Code.Unavailable });
    }
    assert.deepEqual(await stored(accessAlone, userId), { assignments: [], events: [] });

    await edge.heal();
    await client.assignRole({ userId, role: "support" });
    assert.deepEqual((await client.getUserRoles({ userId })).roles, ["support", "user"]);
  });
});

/** What access's database holds about a user: "role by assigner" by role, and "Event role" in the feed's order. */
async function stored(system: TestSystem, userId: string) {
  const rows = await asOwner(
    system,
    (sql) => sql`
    select name, assigned_by from assignments join roles on roles.id = role_id
    where user_id = ${userId} order by name collate "C"`,
  );
  return {
    assignments: rows.map((row) => `${row.name} by ${row.assigned_by}`),
    events: await toldOf(system, userId),
  };
}
