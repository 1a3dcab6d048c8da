import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { reasonOf } from "../../errors.ts";
import { lockWaits } from "../../testing/lock-waits.ts";
import { refusalOf } from "../../testing/refusals.ts";
import { startTestService, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { auth } from "./service.ts";

const DAY_MS = 86_400_000;

const UNAUTHENTICATED = "Unauthenticated UNAUTHENTICATED";

describe("refreshing", () => {
  let system: TestSystem;
  let sql: ReturnType<typeof connect>;

  before(async () => {
    system = await startTestService(auth, { variables: { CONCIERGE_AUTH_AUDIENCES: "billing" } });
    await system.server.ready;
    sql = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
  });

  after(async () => {
    await sql.end();
    await system[Symbol.asyncDispose]();
  });

  const refresh = (refreshToken: string, idempotencyKey = "", audience = "") =>
    system.asUser(AuthService).refreshToken({ refreshToken, idempotencyKey, audience });

  async function isLive({ sessionId }: { sessionId: string }): Promise<boolean> {
    const internal = system.asService(AuthInternalService, "user", "auth");
    return (await internal.checkSession({ sessionId, generation: 0 })).live;
  }

  const rowsOf = ({ sessionId }: TestUser) =>
    sql`select number, used_at is not null as used, key_id from refresh_tokens where session_id = ${sessionId} order by number`;

  async function auditOf({ userId }: TestUser, action: string): Promise<unknown[]> {
    const rows =
      await sql`select outcome, reason, session_id from audit_log where account_id = ${userId} and action = ${action}`;
    return rows.map(({ outcome, reason, session_id }) => [outcome, reason, session_id]);
  }

  test("S-REF-01 a refresh gives new tokens of the same session, and uses the old one up", async () => {
    const user = await system.newUser();
    const { exp } = JSON.parse(Buffer.from(user.accessToken.split(".")[1]!, "base64url").toString());
    await system.advance(60_000);
    const next = await refresh(user.refreshToken);
    assert.deepEqual([next.userId, next.sessionId], [user.userId, user.sessionId]);
    assert.notEqual(next.refreshToken, user.refreshToken);
    assert.equal(Number(next.accessTokenExpiresAt!.seconds), exp + 60);
    const { sessions } = await system.asUser(AuthService, next.accessToken).listSessions({});
    assert.equal(sessions.length, 1);
    assert.deepEqual(
      (await rowsOf(user)).map((row) => [row.number, row.used, row.key_id !== null]),
      [
        [1, true, false],
        [2, false, true],
      ],
    );
    assert.ok((await refresh(next.refreshToken)).refreshToken);
  });

  test("S-REF-02 a used token ends the whole family, and the log says so", async () => {
    const user = await system.newUser();
    const next = await refresh(user.refreshToken);
    assert.equal(await refusalOf(refresh(user.refreshToken)), UNAUTHENTICATED);
    assert.equal(await isLive(user), false);
    assert.equal(await refusalOf(refresh(next.refreshToken)), UNAUTHENTICATED);
    assert.equal(await refusalOf(system.asUser(AuthService, next.accessToken).listSessions({})), UNAUTHENTICATED);
    assert.deepEqual(await auditOf(user, "refresh_token_reused"), [["refused", "", user.sessionId]]);
  });

  test("S-REF-03 of 50 refreshes at once with different keys one succeeds, and the family ends", async () => {
    const user = await system.newUser();
    const results = await Promise.allSettled(
      Array.from({ length: 50 }, () => refresh(user.refreshToken, randomUUID())),
    );
    assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
    for (const result of results) {
      if (result.status === "rejected") assert.equal(await refusalOf(Promise.reject(result.reason)), UNAUTHENTICATED);
    }
    assert.equal((await rowsOf(user)).length, 2);
    assert.equal(await isLive(user), false);
  });

  test("S-REF-04 50 refreshes at once with one key get the identical next token, and one row is made", async () => {
    const user = await system.newUser();
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 50 }, () => refresh(user.refreshToken, key)));
    assert.equal(new Set(answers.map(({ refreshToken }) => refreshToken)).size, 1);
    assert.equal((await rowsOf(user)).length, 2);
    for (const { accessToken } of answers) await system.asUser(AuthService, accessToken).listSessions({});
    assert.ok(await refresh(answers[0]!.refreshToken, randomUUID()));
  });

  test("S-REF-05 a repetition after 10 s, after the next token was used, or with another key ends the family", async () => {
    const repetitions: [string, (user: TestUser, key: string) => Promise<unknown>][] = [
      ["after 10 s", (user, key) => system.advance(10_001).then(() => refresh(user.refreshToken, key))],
      ["with another key", (user) => refresh(user.refreshToken, randomUUID())],
      ["without a key", (user) => refresh(user.refreshToken)],
    ];
    for (const [what, repeat] of repetitions) {
      const user = await system.newUser();
      const key = randomUUID();
      await refresh(user.refreshToken, key);
      assert.equal(await refusalOf(repeat(user, key)), UNAUTHENTICATED, what);
      assert.equal(await isLive(user), false, what);
    }
    const user = await system.newUser();
    const key = randomUUID();
    const next = await refresh(user.refreshToken, key);
    await refresh(next.refreshToken, key);
    assert.equal(await refusalOf(refresh(user.refreshToken, key)), UNAUTHENTICATED);
    assert.equal(await isLive(user), false);
  });

  test("within 10 s a lost answer can be had again, for another audience too", async () => {
    const user = await system.newUser();
    const key = randomUUID();
    const first = await refresh(user.refreshToken, key);
    await system.advance(5_000);
    const second = await refresh(user.refreshToken, key, "billing");
    assert.equal(second.refreshToken, first.refreshToken);
    const { aud } = JSON.parse(Buffer.from(second.accessToken.split(".")[1]!, "base64url").toString());
    assert.equal(aud, "billing");
    assert.equal(await refusalOf(system.asUser(AuthService, second.accessToken).listSessions({})), UNAUTHENTICATED);
    assert.match(await refusalOf(refresh(first.refreshToken, "", "unknown")), /^InvalidArgument UNKNOWN_AUDIENCE/);
    assert.ok(await refresh(first.refreshToken));
  });

  test("S-REF-08 a session ends after 14 days without a refresh, and after 30 days in any case", async () => {
    const idle = await system.newUser();
    await system.advance(14 * DAY_MS - 60_000);
    const { refreshToken } = await refresh(idle.refreshToken);
    await system.advance(14 * DAY_MS + 1_000);
    assert.equal(await refusalOf(refresh(refreshToken)), UNAUTHENTICATED);
    assert.equal(await isLive(idle), false);

    const busy = await system.newUser();
    let token = busy.refreshToken;
    for (let day = 0; day < 29; day += 5) {
      await system.advance(5 * DAY_MS - 10_000);
      token = (await refresh(token)).refreshToken;
    }
    assert.equal(await isLive(busy), true);
    await system.advance(61_000);
    assert.equal(await refusalOf(refresh(token)), UNAUTHENTICATED);
    assert.equal(await isLive(busy), false);
  });

  test("an access token does not outlive its session", async () => {
    const user = await system.newUser();
    const [row] =
      await sql`select extract(epoch from expires_at)::float8 as ends from sessions where id = ${user.sessionId}`;
    let token = user.refreshToken;
    for (const days of [13, 13, 3]) {
      await system.advance(days * DAY_MS);
      token = (await refresh(token)).refreshToken;
    }
    await system.advance(DAY_MS - 60_000);
    const last = await refresh(token);
    assert.equal(Number(last.accessTokenExpiresAt!.seconds), Math.floor(row!.ends));
  });

  test("S-REF-10 the database has hashes of refresh tokens and idempotency keys only", async () => {
    const user = await system.newUser();
    const key = randomUUID();
    const { refreshToken } = await refresh(user.refreshToken, key);
    assert.ok(Buffer.from(refreshToken, "base64url").length >= 32);
    const [{ rows, dump }] = (await sql`
      select count(*)::int as rows, string_agg(t::text, ' ') as dump from refresh_tokens t where session_id = ${user.sessionId}`) as unknown as [
      { rows: number; dump: string },
    ];
    assert.equal(rows, 2);
    for (const secret of [user.refreshToken, refreshToken, key]) {
      for (const form of [
        secret,
        Buffer.from(secret).toString("hex"),
        Buffer.from(secret, "base64url").toString("hex"),
      ]) {
        assert.ok(!dump.includes(form));
      }
      assert.ok(dump.includes(createHash("sha256").update(secret).digest("hex")));
    }
    assert.ok(!JSON.stringify(system.logLines).includes(refreshToken));
  });

  test("S-JWT-15 an access token does not refresh, and a refresh token is no access token", async () => {
    const user = await system.newUser();
    assert.match(await refusalOf(refresh(user.accessToken)), /INVALID_REQUEST|^Unauthenticated UNAUTHENTICATED/);
    assert.equal(await refusalOf(refresh("x".repeat(43))), UNAUTHENTICATED);
    assert.equal(await refusalOf(system.asUser(AuthService, user.refreshToken).listSessions({})), UNAUTHENTICATED);
    assert.equal(await isLive(user), true);
  });

  test("S-REF-18 a family is refreshed 60 times a minute at most, and goes on later", async () => {
    const user = await system.newUser();
    let token = user.refreshToken;
    for (let count = 0; count < 60; count++) token = (await refresh(token)).refreshToken;
    await system.advance(20_000);
    const error = await refresh(token).catch((thrown: unknown) => ConnectError.from(thrown));
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([Code[error.code], reasonOf(error)], ["ResourceExhausted", "RATE_LIMITED"]);
    assert.equal(await isLive(user), true);
    await system.advance(40_001);
    assert.ok(await refresh(token));
  });

  for (const [what, change] of Object.entries({
    "the account is disabled": "update accounts set status = 'disabled' where id = (select account_id from session)",
    "all of its sessions are ended": "update accounts set generation = 1 where id = (select account_id from session)",
    "its session is ended": "update sessions set ended_at = concierge_now() where id = (select id from session)",
  })) {
    test(`S-REF-21 a refresh that finds its token live waits while ${what}, and is then refused`, async () => {
      const user = await system.newUser();
      let refreshed: Promise<string> | undefined;
      await sql.begin(async (tx) => {
        await tx.unsafe(`with session as (select * from sessions where id = '${user.sessionId}') ${change}`);
        refreshed = refusalOf(refresh(user.refreshToken, randomUUID()));
        await until("the wait", async () => (await lockWaits(tx)) > 0);
      });
      assert.equal(await refreshed, UNAUTHENTICATED);
      assert.deepEqual([...(await rowsOf(user))], [{ number: 1, used: false, key_id: null }]);
    });
  }

  test("S-REF-21 of a refresh and a logout at once never a live child of a dead family is left", async () => {
    for (let round = 0; round < 20; round++) {
      const user = await system.newUser();
      const [refreshed] = await Promise.allSettled([
        refresh(user.refreshToken, randomUUID()),
        system.asUser(AuthService).logout({ refreshToken: user.refreshToken }),
      ]);
      assert.equal(await isLive(user), false);
      if (refreshed.status === "fulfilled") {
        assert.equal(await refusalOf(refresh(refreshed.value.refreshToken)), UNAUTHENTICATED);
      }
    }
  });
});
