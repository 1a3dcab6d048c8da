import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessInternalService, AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { connectService } from "../../client/service-client.ts";
import { connect } from "../../db/connection.ts";
import { reasonOf } from "../../errors.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { startTestService, startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { auth } from "../auth/service.ts";
import { access } from "./service.ts";

describe("accounts", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access] });
  });

  after(() => system[Symbol.asyncDispose]());

  test("an account is known soon after its registration, although nobody has asked", async () => {
    const { userId } = await system.newUser();
    await until("the account", () => isKnown(system, userId));
  });

  test("an artist has the roles artist and user, by the event of the registration or by asking before it", async () => {
    const artist = await system.newUser({ stageName: "The Engines" });
    const { userId: user } = await system.newUser();
    const client = system.asService(AccessInternalService, "user", "access");
    const mine = async () => (await system.asUser(AccessService, artist.accessToken).getMyRoles({})).roles;
    const all = async () => {
      const { users } = await client.batchGetUserRoles({ userIds: [artist.userId, user, crypto.randomUUID()] });
      return Object.fromEntries(users.map(({ userId, roles }) => [userId, roles]));
    };
    const expected = { [artist.userId]: ["artist", "user"], [user]: ["user"] };

    assert.deepEqual([await mine(), await all()], [["artist", "user"], expected]);
    await until("the accounts", async () => (await isKnown(system, artist.userId)) && isKnown(system, user));
    assert.deepEqual([await mine(), await all()], [["artist", "user"], expected]);
  });

  test("asking for somebody who does not exist remembers nobody", async () => {
    const userId = crypto.randomUUID();
    const client = system.asService(AccessInternalService, "operator", "access");
    await assert.rejects(client.getUserRoles({ userId }), (error) => reasonOf(error) === "USER_NOT_FOUND");
    assert.equal(await isKnown(system, userId), false);
  });

  test("the roles of a known account are told and given while auth is away; of another they are not", async () => {
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
    const { userId } = await authAlone.newUser({ stageName: "The Engines" });
    await until("the account", () => isKnown(accessAlone, userId));
    using connection = connectService({
      baseUrl: accessAlone.internalUrl,
      key: authAlone.keyOf("operator", "access"),
      clock: accessAlone.clock,
    });
    const client = connection.client(AccessInternalService);

    edge.cut();
    await client.createRole({ name: "support" });
    await client.assignRole({ userId, role: "support" });
    assert.deepEqual((await client.getUserRoles({ userId })).roles, ["artist", "support", "user"]);
    const { userId: unheardOf } = await authAlone.newUser();
    const unavailable = (error: unknown) => reasonOf(error) === "DEPENDENCY_UNAVAILABLE";
    await assert.rejects(client.getUserRoles({ userId: unheardOf }), unavailable);

    await edge.heal();
    await until("the other account", () => isKnown(accessAlone, unheardOf));
  });
});

/** Whether access's database knows the account. */
async function isKnown({ database }: TestSystem, userId: string): Promise<boolean> {
  const sql = connect(database("access").runtimeUrl, { applicationName: "test" });
  try {
    return (await sql`select 1 from known_accounts where user_id = ${userId}`).length > 0;
  } finally {
    await sql.end();
  }
}
