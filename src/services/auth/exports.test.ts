/** What people are given of what is stored about them: all of it, nobody else's, and only soon after a login. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { Code, reasonOf } from "../../errors.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";

describe("an export", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  function client<Desc extends DescService>(desc: Desc, { accessToken }: TestUser) {
    return system.asUser(desc, accessToken);
  }

  async function inboxOf(user: TestUser) {
    const parts = [];
    for await (const { document } of client(NotificationService, user).exportMyData({}))
      parts.push(JSON.parse(document));
    return parts;
  }

  test("of auth has the account, its sessions and what happened to it, and no secret", async () => {
    const user = await system.newUser({ firstName: "Zoë" });
    const other = await system.newUser();
    await assert.rejects(system.asUser(AuthService).login({ email: user.email, password: "wrong" }));
    await system.asService(AuthInternalService, "operator", "auth").enableAccount({ userId: user.userId });
    const { document } = await client(AuthService, user).exportMyData({});

    const { account, sessions, securityEvents } = JSON.parse(document);
    assert.deepEqual([account.userId, account.email, account.firstName], [user.userId, user.email, "Zoë"]);
    assert.deepEqual(
      sessions.map(({ sessionId }: { sessionId: string }) => sessionId),
      [user.sessionId],
    );
    assert.deepEqual(
      securityEvents.map(({ action, outcome, by }: Record<string, string>) => `${action} ${outcome} by ${by}`),
      [
        "login refused by somebody not logged in",
        "login success by somebody not logged in",
        "account_registered success by somebody not logged in",
      ],
    );
    for (const secret of [user.refreshToken, user.password, other.email, other.userId, "argon2", "hash"]) {
      assert.ok(!document.includes(secret), secret);
    }
    const again = JSON.parse((await client(AuthService, user).exportMyData({})).document);
    assert.deepEqual([again.securityEvents[0].action, again.securityEvents[0].by], ["data_exported", "you"]);
  });

  test("of auth names neither administrators nor where they sit", async () => {
    const user = await system.newUser();
    const operator = system.asService(AuthInternalService, "operator", "auth");
    await operator.disableAccount({ userId: user.userId });
    await operator.enableAccount({ userId: user.userId });
    const { accessToken } = await system.asUser(AuthService).login(user);
    const { document } = await system.asUser(AuthService, accessToken).exportMyData({});
    const { securityEvents } = JSON.parse(document);
    const { at: _, ...enabled } = securityEvents[1];
    const fact = { action: "account_enabled", outcome: "success", reason: "", sessionId: null };
    assert.deepEqual(enabled, { ...fact, by: "administrator" });
  });

  test("of user has profile and roles", async () => {
    const user = await system.newUser();
    const { profile, roles } = JSON.parse((await client(UserService, user).exportMyData({})).document);
    assert.deepEqual([profile.userId, profile.email, roles], [user.userId, user.email, ["user"]]);
  });

  test("of notification comes in parts: devices without their tokens, and every notification once, newest first", async () => {
    const user = await system.newUser();
    const other = await system.newUser();
    const token = `device-${crypto.randomUUID()}`;
    await client(NotificationService, user).registerDevice({ token, platform: Platform.WEB });
    assert.deepEqual((await inboxOf(user)).length, 1);
    const sender = system.asService(NotificationInternalService, "backend", "notification");
    await sender.createNotification({ text: "not for her", userIds: [other.userId] });
    await fillInbox(user.userId, 1_001);

    const parts = await inboxOf(user);
    const [device, ...more] = parts[0].devices;
    assert.deepEqual([device.tokenEnd, device.platform, more], [token.slice(-8), "web", []]);
    assert.ok(!JSON.stringify(parts).includes(token));
    const pages = parts.slice(1).map(({ notifications }) => notifications);
    assert.deepEqual(
      pages.map(({ length }) => length),
      [...Array.from({ length: 10 }, () => 100), 1],
    );
    const texts = pages.flat().map(({ text }) => text);
    assert.deepEqual(
      texts,
      Array.from({ length: 1_001 }, (_, index) => `number ${1_001 - index}`),
    );
    const { outcome, processedAt, receivedAt, title, data } = pages[0][0];
    assert.deepEqual([outcome, processedAt !== null, receivedAt, title, data], ["sent", true, null, "", {}]);
  });

  test("S-PWD-19 five minutes after the login every service wants another one; a refresh is none", async () => {
    const user = await system.newUser();
    await system.advance(299_000);
    const { accessToken } = await system.asUser(AuthService).refreshToken({ refreshToken: user.refreshToken });
    const late = { ...user, accessToken };
    const exports = [
      () => client(AuthService, late).exportMyData({}),
      () => client(UserService, late).exportMyData({}),
      () => inboxOf(late),
    ];
    for (const run of exports) await run();
    // More than a second, because the database's clock goes on while the system's stands still.
    await system.advance(60_000);
    for (const run of exports) {
      await assert.rejects(run(), (error) => reasonOf(error) === "REAUTHENTICATE");
      await assert.rejects(run(), { code: Code.Unauthenticated });
    }
    const { accessToken: recent } = await system.asUser(AuthService).login(user);
    await system.asUser(AuthService, recent).exportMyData({});
  });

  /** With processed notifications, in the order of their numbers. */
  async function fillInbox(userId: string, count: number): Promise<void> {
    const sql = connect(system.database("notification").runtimeUrl, { applicationName: "test" });
    try {
      await sql`
        with said as (
          insert into notifications (id, title, text, data, expires_at)
          select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, '', 'number ' || n, '{}', now()
          from generate_series(1, ${count}::integer) n returning id, created_at
        )
        insert into recipients (notification_id, user_id, processed_at, outcome)
        select id, ${userId}, created_at, 'sent' from said`;
    } finally {
      await sql.end();
    }
  }
});
