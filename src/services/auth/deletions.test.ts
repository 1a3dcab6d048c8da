/** Deleting accounts, as auth does it: what is gone at once, what stays, and that nothing under way slips through. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import type { Sql } from "postgres";
import { AccountDeletedSchema } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { reasonOf } from "../../errors.ts";
import { lockWaits } from "../../testing/lock-waits.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { organization } from "../organization/service.ts";
import { auth } from "./service.ts";

const because = (reason: string) => (error: unknown) => reasonOf(error) === reason;

describe("deleting an account", () => {
  let system: TestSystem;
  let owner: Sql;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, organization] });
    owner = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
  });

  after(async () => {
    await owner.end();
    await system[Symbol.asyncDispose]();
  });

  const operator = () => system.asService(AuthInternalService, "operator", "auth");

  function deleteMyself({ accessToken, password }: TestUser, currentPassword = password) {
    return system.asUser(AuthService, accessToken).deleteMyAccount({ currentPassword });
  }

  function login({ email, password }: { email: string; password: string }) {
    return system.asUser(AuthService).login({ email, password });
  }

  const actionsOf = async (userId: string) => {
    const rows = await owner`select action, outcome from audit_log where account_id = ${userId} order by id`;
    return rows.map(({ action, outcome }) => `${action} ${outcome}`);
  };

  const eventsOf = async (userId: string) => {
    const rows = await owner`select type from feed_outbox where subject = ${`account/${userId}`} order by id`;
    return rows.map(({ type }) => String(type).split(".").at(-1));
  };

  const liveSessionsOf = async (userId: string) =>
    (await owner`select 1 from sessions where account_id = ${userId} and ended_at is null`).length;

  test("leaves an id and nothing that tells of the person, in one step that is told and written down once", async () => {
    const user = await system.newUser({ firstName: "Zoë", lastName: "O'Neil" });
    await login(user);
    await deleteMyself(user);

    const [account] = await owner`select * from accounts where id = ${user.userId}`;
    const { email, email_key, first_name, last_name, locale, stage_name, status } = account!;
    assert.deepEqual([email, first_name, last_name, locale, stage_name], ["", "", "", "", ""]);
    assert.deepEqual([email_key, status], [user.userId, "deleted"]);
    assert.equal((await owner`select 1 from credentials where account_id = ${user.userId}`).length, 0);
    const sessions = await owner`select * from sessions where account_id = ${user.userId}`;
    for (const { user_agent, address, end_reason } of sessions) {
      assert.deepEqual([user_agent, address, end_reason], ["", "", "account_deleted"]);
    }
    const logins = ["login success", "login success"];
    assert.deepEqual(await actionsOf(user.userId), [
      "account_registered success",
      ...logins,
      "account_deleted success",
    ]);
    const started = ["AccountRegistered", "SessionStarted", "SessionStarted"];
    assert.deepEqual(await eventsOf(user.userId), [...started, "SessionEnded", "SessionEnded", "AccountDeleted"]);
    const [row] = await owner`
      select payload from feed_outbox where subject = ${`account/${user.userId}`} order by id desc limit 1`;
    assert.equal(fromBinary(AccountDeletedSchema, row!.payload).userId, user.userId);
  });

  test("wants the password: a wrong one changes nothing and is written down", async () => {
    const user = await system.newUser();
    await assert.rejects(deleteMyself(user, "not my password"), because("BAD_CREDENTIALS"));
    assert.equal((await actionsOf(user.userId)).at(-1), "account_deleted refused");
    assert.equal((await operator().getAccount({ userId: user.userId })).account?.email, user.email);
    assert.ok((await login(user)).accessToken);
  });

  test("S-JWT-25 ends everything that the person could come in with, and the address is free for somebody else", async () => {
    const user = await system.newUser();
    await deleteMyself(user);
    const people = system.asUser(AuthService);
    await assert.rejects(system.asUser(AuthService, user.accessToken).listSessions({}), because("UNAUTHENTICATED"));
    await assert.rejects(people.refreshToken({ refreshToken: user.refreshToken }), because("UNAUTHENTICATED"));
    await assert.rejects(login(user), because("BAD_CREDENTIALS"));
    await assert.rejects(login({ ...user, email: user.userId }), because("BAD_CREDENTIALS"));
    await assert.rejects(operator().getAccount({ userId: user.userId }), because("ACCOUNT_NOT_FOUND"));

    const next = await system.newUser({ email: user.email });
    assert.notEqual(next.userId, user.userId);
    assert.equal((await system.asUser(AuthService, next.accessToken).listSessions({})).sessions.length, 1);
  });

  test("by an operator or a backend: also of a disabled account, twice, and for good", async () => {
    const { userId } = await system.newUser();
    await operator().disableAccount({ userId });
    await operator().deleteAccount({ userId: userId.toUpperCase() });
    await system.asService(AuthInternalService, "backend", "auth").deleteAccount({ userId });
    await assert.rejects(operator().enableAccount({ userId }), because("ACCOUNT_NOT_FOUND"));
    await assert.rejects(operator().deleteAccount({ userId: crypto.randomUUID() }), because("ACCOUNT_NOT_FOUND"));
    assert.equal((await eventsOf(userId)).filter((type) => type === "AccountDeleted").length, 1);
    assert.equal((await actionsOf(userId)).filter((action) => action.startsWith("account_deleted")).length, 1);
  });

  test("ten times at once, beside logins and refreshes: it is done once, and no session is left", async () => {
    const user = await system.newUser();
    const others = [login(user), system.asUser(AuthService).refreshToken({ refreshToken: user.refreshToken })];
    const deleting = Array.from({ length: 10 }, (_, number) =>
      number % 2 === 0 ? deleteMyself(user) : operator().deleteAccount({ userId: user.userId }),
    );
    await Promise.allSettled([...others, ...deleting]);
    assert.equal((await eventsOf(user.userId)).filter((type) => type === "AccountDeleted").length, 1);
    assert.equal(await liveSessionsOf(user.userId), 0);
  });

  test("a login that waits for the deletion's open transaction starts no session", async () => {
    const user = await system.newUser();
    const calls: Promise<unknown>[] = [];
    await owner.begin(async (tx) => {
      const isWaiting = async (count: number) => (await lockWaits(tx)) === count;
      await tx`select 1 from accounts where id = ${user.userId} for no key update`;
      calls.push(operator().deleteAccount({ userId: user.userId }));
      await until("the deletion waits for the lock", () => isWaiting(1));
      calls.push(assert.rejects(login(user), because("BAD_CREDENTIALS")));
      await until("the login waits for the lock", () => isWaiting(2));
    });
    await Promise.all(calls);
    assert.equal(await liveSessionsOf(user.userId), 0);
  });
});
