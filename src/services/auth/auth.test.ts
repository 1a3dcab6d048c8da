import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { refusal } from "../../testing/refusals.ts";
import { startTestService, type TestSystem } from "../../testing/system.ts";
import { auth } from "./service.ts";

const EMAIL_TAKEN = {
  code: Code.AlreadyExists,
  reason: "EMAIL_TAKEN",
  message: "an account with this e-mail address exists already",
};

describe("auth", () => {
  let system: TestSystem;

  before(async () => {
    const variables = { CONCIERGE_AUTH_SESSION_IDLE_SECONDS: String(60 * 86_400) };
    system = await startTestService(auth, { variables });
    await system.server.ready;
  });

  after(() => system[Symbol.asyncDispose]());

  async function countRows(table: string): Promise<number> {
    const sql = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
    try {
      return Number((await sql`select count(*) from ${sql(table)}`)[0]!.count);
    } finally {
      await sql.end();
    }
  }

  test("registers, logs in, and logs out for good", async () => {
    const user = await system.newUser({ email: "Ann@Example.com" });
    const internal = system.asService(AuthInternalService, "user", "auth");
    const { account } = await internal.getAccount({ userId: user.userId });
    assert.equal(account?.email, "Ann@Example.com");
    assert.equal((await internal.checkSession({ sessionId: user.sessionId, generation: 0 })).live, true);
    await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
    await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
    assert.equal((await internal.checkSession({ sessionId: user.sessionId, generation: 0 })).live, false);
  });

  test("a taken e-mail is refused in any spelling", async () => {
    await system.newUser({ email: "bob@example.com" });
    const again = system.asUser(AuthService).registerUser({ email: "BOB@example.COM", password: "another password" });
    assert.deepEqual(await refusal(again), EMAIL_TAKEN);
  });

  test("S-PWD-07 nothing but the password is hashed: behind the longest address and names every other one is wrong", async () => {
    const [label, name] = ["a".repeat(60), "n".repeat(100)];
    const email = `${"l".repeat(60)}@${[label, label, label].join(".")}.com`;
    const password = `pass-${crypto.randomUUID()}`;
    await system.newUser({ email, password, firstName: name, lastName: name });
    for (const other of [`${password}!`, password.slice(0, -1), "a"]) {
      const { reason } = await refusal(system.asUser(AuthService).login({ email, password: other }));
      assert.equal(reason, "BAD_CREDENTIALS", other);
    }
    await system.asUser(AuthService).login({ email, password });
  });

  test("S-LOG-04 of 20 registrations of one address at once exactly one makes an account, and the rest are EMAIL_TAKEN", async () => {
    const before = [await countRows("accounts"), await countRows("credentials"), await countRows("feed_outbox")];
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) => {
        const email = index % 2 === 0 ? "race@example.com" : "RACE@example.com";
        return system.asUser(AuthService).registerUser({ email, password: "a fine password" });
      }),
    );
    const refused = results
      .filter((result) => result.status === "rejected")
      .map(({ reason }) => Promise.reject(reason));
    assert.equal(refused.length, 19);
    for (const promise of refused) assert.deepEqual(await refusal(promise), EMAIL_TAKEN);
    const now = [await countRows("accounts"), await countRows("credentials"), await countRows("feed_outbox")];
    assert.deepEqual(
      now,
      before.map((count) => count + 1),
    );
    assert.doesNotMatch(JSON.stringify(system.logLines), /race@example\.com/i);
  });

  test("an unknown account is ACCOUNT_NOT_FOUND, and an unknown session is not live", async () => {
    const internal = system.asService(AuthInternalService, "user", "auth");
    const unknown = crypto.randomUUID();
    assert.equal((await refusal(internal.getAccount({ userId: unknown }))).reason, "ACCOUNT_NOT_FOUND");
    assert.equal((await internal.checkSession({ sessionId: unknown, generation: 0 })).live, false);
  });

  test("a session is not live in another generation, and not past its end", async () => {
    const user = await system.newUser();
    const internal = system.asService(AuthInternalService, "user", "auth");
    const isLive = async (generation: number) =>
      (await internal.checkSession({ sessionId: user.sessionId, generation })).live;
    assert.deepEqual([await isLive(0), await isLive(1)], [true, false]);
    await system.advance(30 * 86_400_000 - 60_000);
    assert.equal(await isLive(0), true);
    await system.advance(61_000);
    assert.equal(await isLive(0), false);
  });
});
