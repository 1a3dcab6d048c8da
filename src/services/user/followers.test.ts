import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserInternalService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { access } from "../access/service.ts";
import { auth } from "../auth/service.ts";
import { user } from "./service.ts";

const ROUNDS = 20;

describe("followers of user", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, user] });
  });

  after(() => system[Symbol.asyncDispose]());

  const register = async (): Promise<string> => {
    const email = `${crypto.randomUUID()}@example.com`;
    const details = { email, password: crypto.randomUUID(), firstName: "Zoë", lastName: "O'Neil" };
    return (await system.asUser(AuthService).registerUser(details)).userId;
  };

  test("a registration makes the profile and one event, although nobody calls user", async () => {
    const userId = await register();

    const profile = await until("the profile", () => storedProfile(system, userId));

    const { account } = await system.asService(AuthInternalService, "user", "auth").getAccount({ userId });
    assert.equal(profile.email, account?.email);
    assert.deepEqual([profile.first_name, profile.last_name, profile.locale], ["Zoë", "O'Neil", ""]);
    assert.deepEqual(await countEvents(system, [userId]), [1]);
  });

  test("a read that races with the follower makes no second profile or event", async () => {
    const backend = system.asService(UserInternalService, "backend", "user");
    const userIds: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const userId = await register();
      userIds.push(userId);
      // In every second round the follower has a head start.
      if (round % 2 === 1) await until("the profile", () => storedProfile(system, userId));
      const answers = await Promise.all([backend.getUser({ userId }), backend.getUser({ userId })]);
      assert.deepEqual(answers[0].user, answers[1].user);
    }
    const last = await register();
    await until("the profile of the last", () => storedProfile(system, last));
    assert.deepEqual(
      await countEvents(system, userIds),
      userIds.map(() => 1),
    );
  });
});

async function inDatabase<T>({ database }: TestSystem, work: (sql: ReturnType<typeof connect>) => Promise<T>) {
  const sql = connect(database("user").runtimeUrl, { applicationName: "test" });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

function storedProfile(system: TestSystem, userId: string) {
  return inDatabase(system, async (sql) => (await sql`select * from profiles where user_id = ${userId}`)[0]);
}

/** How many events tell of each. */
function countEvents(system: TestSystem, userIds: string[]): Promise<number[]> {
  return inDatabase(system, async (sql) => {
    const rows = await sql`select subject from feed_outbox where type = 'concierge.user.v1.UserCreated'`;
    return userIds.map((userId) => rows.filter(({ subject }) => subject === `user/${userId}`).length);
  });
}
