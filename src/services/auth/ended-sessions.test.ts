/** Where somebody begins who decides about tokens alone: nothing that matters is missing, nothing comes that does not. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { SessionEndedSchema } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { reasonOf } from "../../errors.ts";
import { openAuth } from "../../testing/auth-feed.ts";
import { setDatabaseOffset } from "../../testing/cluster.ts";
import { until } from "../../testing/until.ts";

type Auth = Awaited<ReturnType<typeof openAuth>>;

/** Logs in and out again; the ids of the sessions, sorted. */
async function endSome(auth: Auth, count: number): Promise<string[]> {
  const ended: string[] = [];
  for (let number = 0; number < count; number++) {
    const { claims, refreshToken } = await auth.login();
    await auth.logout(refreshToken);
    ended.push(claims.sessionId);
  }
  return ended.sort();
}

const idsOf = (page: { sessions: { sessionId: string }[] }) => page.sessions.map(({ sessionId }) => sessionId);

describe("the sessions that ended lately", () => {
  test("come in pages, with where to follow the feed from", async () => {
    await using auth = await openAuth();
    await auth.login();
    const ended = await endSome(auth, 5);
    const first = await auth.auth.listEndedSessions({ pageSize: 2 });
    const second = await auth.auth.listEndedSessions({ pageSize: 2, pageToken: first.nextPageToken });
    const third = await auth.auth.listEndedSessions({ pageSize: 2, pageToken: second.nextPageToken });
    assert.deepEqual([first, second, third].flatMap(idsOf), ended);
    assert.deepEqual(
      [first, second, third].map(idsOf).map(({ length }) => length),
      [2, 2, 1],
    );
    assert.equal(third.nextPageToken, "");
    assert.deepEqual(idsOf(await auth.auth.listEndedSessions({ pageSize: 5 })), ended);
    const all = await auth.auth.listEndedSessions({ pageSize: 4_000_000_000 });
    assert.deepEqual([idsOf(all), all.nextPageToken], [ended, ""]);
    assert.ok(all.start!.position <= all.settledPosition);
  });

  test("what a page lacks comes after the place that the first one names", async () => {
    await using auth = await openAuth();
    const [early] = await endSome(auth, 1);
    const first = await auth.auth.listEndedSessions({});
    const [late] = await endSome(auth, 1);
    assert.deepEqual(idsOf(first), [early]);
    const from = { case: "cursor" as const, value: first.start! };
    // The early one may come once more, if it had no place yet when the page was made.
    await until("the feed tells of it", async () => {
      const { events } = await auth.feed.read({ service: "auth", from });
      return events.some(({ payload }) => fromBinary(SessionEndedSchema, payload).sessionId === late);
    });
    assert.deepEqual(idsOf(await auth.auth.listEndedSessions({})), [early, late].sort());
  });

  test("are those whose access tokens may still look good, and each says until when", async () => {
    await using auth = await openAuth({ accessTokenSeconds: 60 });
    const before = Date.now();
    const [id] = await endSome(auth, 1);
    const [session] = (await auth.auth.listEndedSessions({})).sessions;
    const expireAt = timestampMs(session!.tokensExpireAt!);
    assert.ok(expireAt >= before + 60_000 && expireAt <= Date.now() + 60_001);
    await setDatabaseOffset(auth.ownerUrl, 61_000);
    assert.deepEqual(idsOf(await auth.auth.listEndedSessions({})), [id]);
    await setDatabaseOffset(auth.ownerUrl, 70_001);
    assert.deepEqual(idsOf(await auth.auth.listEndedSessions({})), []);
  });

  test("a page token that auth did not give is INVALID_PAGE_TOKEN", async () => {
    await using auth = await openAuth();
    for (const pageToken of ["x", Buffer.from("no id").toString("base64url"), crypto.randomUUID()]) {
      const error = await auth.auth.listEndedSessions({ pageToken }).then(() => assert.fail(), ConnectError.from);
      assert.deepEqual([error.code, reasonOf(error)], [Code.InvalidArgument, "INVALID_PAGE_TOKEN"]);
    }
  });
});

describe("what auth publishes of a session", () => {
  test("is about its account, and says when the last access token expires", async () => {
    await using auth = await openAuth({ accessTokenSeconds: 120 });
    const { claims, refreshToken } = await auth.login();
    await auth.logout(refreshToken);
    const rows = await auth.admin<{ type: string; subject: string; payload: Uint8Array; created_at: Date }[]>`
      select type, subject, payload, created_at from feed_outbox order by id`;
    assert.deepEqual(
      rows.map(({ type, subject }) => [type, subject]),
      ["AccountRegistered", "SessionStarted", "SessionEnded"].map((name) => [
        `concierge.auth.v1.${name}`,
        `account/${claims.userId}`,
      ]),
    );
    const [registered, , ended] = rows;
    const { payload, created_at: endedAt } = ended!;
    const { sessionId, userId, tokensExpireAt } = fromBinary(SessionEndedSchema, payload);
    assert.deepEqual([sessionId, userId], [claims.sessionId, claims.userId]);
    const lastTokenAt = timestampMs(tokensExpireAt!) - 120_000;
    assert.ok(lastTokenAt >= registered!.created_at.getTime() && lastTokenAt <= endedAt.getTime());
    assert.ok(timestampMs(tokensExpireAt!) >= claims.expiresAt * 1_000);
  });

  test("an access token does not outlive its session", async () => {
    await using auth = await openAuth({ accessTokenSeconds: 300, sessionSeconds: 100 });
    auth.clock.advance(60_000); // ahead of the database's, so that the session's end decides
    const { claims } = await auth.login();
    const [row] = await auth.admin<{ expires_at: Date }[]>`select expires_at from sessions`;
    assert.equal(claims.expiresAt, Math.floor(row!.expires_at.getTime() / 1_000));
  });
});
