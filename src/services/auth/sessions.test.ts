import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { refusalOf } from "../../testing/refusals.ts";
import { startTestService, type TestSystem, type TestUser } from "../../testing/system.ts";
import { auth } from "./service.ts";

const MOST_SESSIONS = 5;

describe("sessions", () => {
  let system: TestSystem;
  let sql: ReturnType<typeof connect>;

  before(async () => {
    system = await startTestService(auth, { variables: { CONCIERGE_AUTH_SESSIONS_PER_USER: String(MOST_SESSIONS) } });
    await system.server.ready;
    sql = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
  });

  after(async () => {
    await sql.end();
    await system[Symbol.asyncDispose]();
  });

  const asUser = ({ accessToken }: { accessToken: string }) => system.asUser(AuthService, accessToken);
  const asOperator = () => system.asService(AuthInternalService, "operator", "auth");
  const loginAgain = ({ email, password }: TestUser, headers = {}) =>
    system.asUser(AuthService).login({ email, password }, { headers });

  /** Refused at once by the service itself, which asks its own database, and not to be refreshed. */
  async function assertDead(tokens: { accessToken: string; refreshToken: string }): Promise<void> {
    assert.equal(await refusalOf(asUser(tokens).listSessions({})), "Unauthenticated UNAUTHENTICATED");
    const { refreshToken } = tokens;
    assert.equal(
      await refusalOf(system.asUser(AuthService).refreshToken({ refreshToken })),
      "Unauthenticated UNAUTHENTICATED",
    );
  }

  const assertAlive = (tokens: { accessToken: string }) => asUser(tokens).listSessions({});

  /** How the account's sessions have ended, the oldest first. */
  async function endsOf({ userId }: { userId: string }): Promise<(string | null)[]> {
    const rows = await sql`select end_reason from sessions where account_id = ${userId} order by created_at, id`;
    return rows.map((row) => row.end_reason);
  }

  /** Session ids of the account's SessionEnded, which other services go by. */
  async function published({ userId }: { userId: string }): Promise<number> {
    const [row] = await sql`select count(*)::int as count from feed_outbox
      where subject = ${`account/${userId}`} and type = 'concierge.auth.v1.SessionEnded'`;
    return row!.count;
  }

  test("S-REF-19 the list shows device, address and times, no token; ending one ends only that one", async () => {
    const user = await system.newUser();
    await system.advance(1_000);
    const phone = await loginAgain(user, { "user-agent": "Phone/1.0 \u00e4" });
    const { sessions } = await asUser(user).listSessions({});
    assert.deepEqual(
      sessions.map(({ sessionId, userAgent, address, current }) => [sessionId, userAgent, address, current]),
      [
        [phone.sessionId, "Phone/1.0 ", "127.0.0.1", false],
        [user.sessionId, sessions[1]!.userAgent, "127.0.0.1", true],
      ],
    );
    const [{ createdAt, lastUsedAt, expiresAt } = assert.fail()] = sessions;
    // Each takes the time for itself.
    assert.ok(Math.abs(timestampMs(createdAt!) - timestampMs(lastUsedAt!)) <= 1);
    assert.equal(expiresAt!.seconds - createdAt!.seconds, 30n * 86_400n);
    const text = JSON.stringify(sessions, (_, value) => (typeof value === "bigint" ? String(value) : value));
    for (const secret of [phone.refreshToken, phone.accessToken, user.refreshToken]) assert.ok(!text.includes(secret));

    await asUser(user).endSession({ sessionId: phone.sessionId });
    await asUser(user).endSession({ sessionId: phone.sessionId });
    await assertDead(phone);
    await assertAlive(user);
    assert.deepEqual(await endsOf(user), [null, "ended_by_user"]);
    assert.equal(await published(user), 1);
  });

  test("S-REF-12 nobody ends the session of somebody else, and cannot tell that it exists", async () => {
    const [owner, stranger] = [await system.newUser(), await system.newUser()];
    for (const sessionId of [owner.sessionId, crypto.randomUUID()]) {
      assert.equal(await refusalOf(asUser(stranger).endSession({ sessionId })), "NotFound SESSION_NOT_FOUND");
    }
    await assertAlive(owner);
  });

  test("S-REF-13 ending the others leaves the session that calls", async () => {
    const user = await system.newUser();
    const others = [await loginAgain(user), await loginAgain(user)];
    const stranger = await system.newUser();
    assert.equal((await asUser(user).endOtherSessions({})).ended, 2);
    assert.equal((await asUser(user).endOtherSessions({})).ended, 0);
    for (const other of others) await assertDead(other);
    await assertAlive(user);
    await assertAlive(stranger);
  });

  test("S-REF-13 S-PWD-19 a new password ends all sessions and gives one new; the old password is good no more", async () => {
    const user = await system.newUser();
    const other = await loginAgain(user);
    const newPassword = `pass-${crypto.randomUUID()}`;
    const change = (currentPassword: string) => asUser(user).changePassword({ currentPassword, newPassword });
    assert.equal(await refusalOf(change("")), "InvalidArgument INVALID_REQUEST");
    assert.equal(await refusalOf(change(`${user.password}x`)), "Unauthenticated BAD_CREDENTIALS");
    await assertAlive(user);
    const renewed = await change(user.password);
    await assertDead(user);
    await assertDead(other);
    await assertAlive(renewed);
    assert.equal(await refusalOf(loginAgain(user)), "Unauthenticated BAD_CREDENTIALS");
    await loginAgain({ ...user, password: newPassword });
    assert.deepEqual(await endsOf(user), ["password_changed", "password_changed", null, null]);
    assert.equal(await published(user), 2);
    const audited = await sql`select action, outcome from audit_log where account_id = ${user.userId} order by id`;
    assert.deepEqual(
      audited.map(({ action, outcome }) => `${action} ${outcome}`).filter((line) => line.startsWith("password")),
      ["password_changed refused", "password_changed success"],
    );
  });

  test("S-REF-13 an operator ends all sessions, or disables the account until it is enabled again", async () => {
    const user = await system.newUser();
    const other = await loginAgain(user);
    const { userId } = user;
    assert.equal((await asOperator().endUserSessions({ userId })).ended, 2);
    for (const tokens of [user, other]) await assertDead(tokens);
    const again = await loginAgain(user);
    await asOperator().disableAccount({ userId });
    await asOperator().disableAccount({ userId });
    await assertDead(again);
    assert.equal(await refusalOf(loginAgain(user)), "Unauthenticated BAD_CREDENTIALS");
    await asOperator().enableAccount({ userId });
    await assertDead(again);
    await assertAlive(await loginAgain(user));
    assert.deepEqual(await endsOf(user), [
      "ended_by_administrator",
      "ended_by_administrator",
      "account_disabled",
      null,
    ]);
    const [audited] =
      await sql`select actor from audit_log where account_id = ${userId} and action = 'account_disabled'`;
    assert.equal(audited!.actor, "operator operator");
    for (const method of ["endUserSessions", "disableAccount", "enableAccount"] as const) {
      const unknown = asOperator()[method]({ userId: crypto.randomUUID() });
      assert.equal(await refusalOf(unknown), "NotFound ACCOUNT_NOT_FOUND", method);
    }
  });

  test("S-REF-14 of an ended session and an older generation the stricter one holds", async () => {
    const user = await system.newUser();
    const internal = system.asService(AuthInternalService, "user", "auth");
    const live = async (sessionId: string, generation: number) =>
      (await internal.checkSession({ sessionId, generation })).live;
    await asOperator().endUserSessions({ userId: user.userId });
    const newer = await loginAgain(user);
    assert.deepEqual(
      [await live(user.sessionId, 1), await live(newer.sessionId, 0), await live(newer.sessionId, 1)],
      [false, false, true],
    );
    await asUser(newer).endSession({ sessionId: newer.sessionId });
    assert.equal(await live(newer.sessionId, 1), false);
  });

  test("S-REF-17 each login has a session of its own", async () => {
    const user = await system.newUser();
    const again = await loginAgain(user);
    assert.notEqual(again.sessionId, user.sessionId);
    await assertAlive(user);
  });

  test("S-REF-18 a login beyond the most sessions ends the oldest, also of many at once", async () => {
    const user = await system.newUser();
    await system.advance(1_000);
    const logins = await Promise.all(Array.from({ length: MOST_SESSIONS + 3 }, () => loginAgain(user)));
    await assertDead(user);
    const { sessions } = await asUser(await loginAgain(user)).listSessions({});
    assert.equal(sessions.length, MOST_SESSIONS);
    const ended = (await endsOf(user)).filter((reason) => reason === "too_many_sessions").length;
    assert.equal(ended, logins.length + 2 - MOST_SESSIONS);
    assert.equal(await published(user), ended);
  });

  test("S-REF-20 a login in flight while the password changes, or the account is disabled, starts no live session", async () => {
    for (const change of ["password", "disable", "end"] as const) {
      const user = await system.newUser();
      const newPassword = `pass-${crypto.randomUUID()}`;
      const logins = Array.from({ length: 6 }, () => loginAgain(user));
      const changes = {
        password: () => asUser(user).changePassword({ currentPassword: user.password, newPassword }),
        disable: () => asOperator().disableAccount({ userId: user.userId }),
        end: () => asOperator().endUserSessions({ userId: user.userId }),
      };
      await changes[change]();
      const [row] = await sql`select generation from accounts where id = ${user.userId}`;
      const results = await Promise.allSettled(logins);
      const survivors = await sql`select s.generation from sessions s
        where s.account_id = ${user.userId} and s.ended_at is null and s.generation < ${row!.generation}`;
      assert.deepEqual([...survivors], [], change);
      for (const result of results) {
        if (result.status === "rejected" && change === "end") throw result.reason;
        if (result.status === "fulfilled" && change === "disable") await assertDead(result.value);
      }
      if (change !== "password") continue;
      // The one that the change has started, and no other.
      const live = await sql`select id from sessions where account_id = ${user.userId} and ended_at is null`;
      assert.equal(live.length, 1);
    }
  });
});
