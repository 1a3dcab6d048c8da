import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { AccessInternalService, AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { Code, reasonOf } from "../../errors.ts";
import { heldFailpoint } from "../../failpoints.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { auth } from "../auth/service.ts";
import { access } from "./service.ts";
import { toldOf } from "./testing.ts";

describe("admins", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access] });
  });

  after(() => system[Symbol.asyncDispose]());

  /** An installation is bootstrapped once, and every test needs a new one. */
  beforeEach(() => inDatabase(system, (sql) => sql`truncate first_admin, admins, feed_outbox`));

  const operator = () => system.asService(AccessInternalService, "operator", "access");
  const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;
  const isAdmin = async (userId: string) => (await operator().getUserRoles({ userId })).roles.includes("admin");
  const newUserId = async () => (await system.newUser()).userId;

  async function assertRefused(call: () => Promise<unknown>, reason: string): Promise<void> {
    await assert.rejects(call, because(reason));
    await assert.rejects(call, { code: Code.FailedPrecondition });
  }

  test("S-CFG-05 after a fresh migration there is no account, no administrator and no assignment", async () => {
    await using fresh = await startTestSystem({ definitions: [auth, access] });
    const count = (service: string, table: string) =>
      inDatabase(fresh, async (sql) => (await sql`select 1 from ${sql(table)}`).length, service);
    assert.equal(await count("auth", "accounts"), 0);
    for (const table of ["known_accounts", "admins", "assignments", "permissions", "first_admin", "roles"]) {
      assert.equal(await count("access", table), 0, table);
    }
  });

  test("S-CFG-05 of 20 tries at once for 20 accounts exactly one makes the first administrator", async () => {
    const userIds: string[] = [];
    for (let count = 0; count < 20; count++) userIds.push(await newUserId());

    const tries = await Promise.allSettled(userIds.map((userId) => operator().bootstrapAdmin({ userId })));

    const refused = tries.filter((outcome) => outcome.status === "rejected");
    assert.equal(refused.length, 19);
    for (const { reason } of refused) assert.equal(reasonOf(reason), "ADMIN_EXISTS");
    const first = userIds[tries.findIndex(({ status }) => status === "fulfilled")]!;
    const admins = await Promise.all(userIds.map(isAdmin));
    assert.deepEqual(
      userIds.filter((_, index) => admins[index]),
      [first],
    );
    for (const userId of userIds)
      assert.deepEqual(await toldOf(system, userId), userId === first ? ["RoleAssigned admin"] : []);
  });

  test("S-CFG-05 20 tries at once for one account, however its id is spelled, are one administrator and one event", async () => {
    const { userId, accessToken } = await system.newUser();
    const spellings = [userId, userId.toUpperCase()];

    const tries = Array.from({ length: 20 }, (_, n) => operator().bootstrapAdmin({ userId: spellings[n % 2]! }));
    await Promise.all(tries);

    assert.deepEqual((await system.asUser(AccessService, accessToken).getMyRoles({})).roles, ["admin", "user"]);
    assert.deepEqual(await toldOf(system, userId), ["RoleAssigned admin"]);
    await assertRefused(async () => operator().bootstrapAdmin({ userId: await newUserId() }), "ADMIN_EXISTS");
  });

  test("the first administrator is not made again after somebody took the role away", async () => {
    const [first, second] = [await newUserId(), await newUserId()];
    await operator().bootstrapAdmin({ userId: first });
    await operator().grantAdmin({ userId: second });
    await operator().revokeAdmin({ userId: first });

    for (const userId of [first, second]) {
      await assertRefused(() => operator().bootstrapAdmin({ userId }), "ADMIN_EXISTS");
    }
    assert.deepEqual([await isAdmin(first), await isAdmin(second)], [false, true]);
  });

  test("only somebody with an account becomes an administrator, and nobody before the first one", async () => {
    const nobody = crypto.randomUUID();
    const userId = await newUserId();

    await assert.rejects(operator().bootstrapAdmin({ userId: nobody }), because("USER_NOT_FOUND"));
    await assertRefused(() => operator().grantAdmin({ userId }), "NOT_BOOTSTRAPPED");
    await operator().revokeAdmin({ userId });
    assert.equal(await isAdmin(userId), false);

    await operator().bootstrapAdmin({ userId });
    await assert.rejects(operator().grantAdmin({ userId: nobody }), because("USER_NOT_FOUND"));
    assert.deepEqual(await toldOf(system, nobody), []);
  });

  test("administrators are made and taken away; a repetition changes nothing and tells nobody", async () => {
    const [first, second] = [await newUserId(), await newUserId()];
    await operator().bootstrapAdmin({ userId: first });

    for (let round = 0; round < 2; round++) await operator().grantAdmin({ userId: second });
    assert.equal(await isAdmin(second), true);
    for (let round = 0; round < 2; round++) await operator().revokeAdmin({ userId: second });

    assert.deepEqual([await isAdmin(first), await isAdmin(second)], [true, false]);
    assert.deepEqual(await toldOf(system, second), ["RoleAssigned admin", "RoleUnassigned admin"]);
  });

  test("the last administrator stays, also when the last two are taken away at the same time", async () => {
    const [first, second] = [await newUserId(), await newUserId()];
    await operator().bootstrapAdmin({ userId: first });
    await operator().grantAdmin({ userId: second });

    using held = heldFailpoint("emit.after_insert");
    const goes = operator().revokeAdmin({ userId: first });
    await held.reached;
    const stays = assert.rejects(operator().revokeAdmin({ userId: second }), because("LAST_ADMIN"));
    await until("the other one waits", () => waitsForLock(system));
    held.release();
    await Promise.all([goes, stays]);

    assert.deepEqual([await isAdmin(first), await isAdmin(second)], [false, true]);
    await assertRefused(() => operator().revokeAdmin({ userId: second }), "LAST_ADMIN");
    assert.deepEqual(await toldOf(system, second), ["RoleAssigned admin"]);
  });

  test("nobody but operators makes or takes away administrators", async () => {
    const userId = await newUserId();
    for (const caller of ["backend", "user"]) {
      const { bootstrapAdmin, grantAdmin, revokeAdmin } = system.asService(AccessInternalService, caller, "access");
      for (const call of [bootstrapAdmin, grantAdmin, revokeAdmin]) {
        await assert.rejects(call({ userId }), { code: Code.PermissionDenied });
      }
    }
    assert.equal(await isAdmin(userId), false);
  });
});

async function inDatabase<T>(
  { database }: TestSystem,
  work: (sql: ReturnType<typeof connect>) => PromiseLike<T>,
  service = "access",
): Promise<T> {
  const sql = connect(database(service).ownerUrl, { applicationName: "test" });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

/** Whether somebody waits to lock the row of the first administrator. */
function waitsForLock(system: TestSystem): Promise<boolean> {
  return inDatabase(system, async (sql) => {
    const waiting = await sql`
      select 1 from pg_locks waiting join pg_locks held using (pid)
      where not waiting.granted and held.relation = 'first_admin'::regclass
        and held.database = (select oid from pg_database where datname = current_database())`;
    return waiting.length > 0;
  });
}
