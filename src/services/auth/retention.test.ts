/** What auth deletes of itself, and what it keeps. */
import assert from "node:assert/strict";
import test from "node:test";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { openDatabase } from "../../db/database.ts";
import { startTestService } from "../../testing/system.ts";
import { sweepAuth } from "./retention.ts";
import { auth } from "./service.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** auth with its owner's connection, and the sweep as the service runs it. */
async function setUp() {
  await using opened = new AsyncDisposableStack();
  const system = opened.use(await startTestService(auth));
  await system.server.ready;
  const { ownerUrl, runtimeUrl } = system.database("auth");
  const owner = connect(ownerUrl, { applicationName: "owner", max: 2 });
  opened.defer(() => owner.end());
  const { db } = opened.use(openDatabase({ url: runtimeUrl, poolSize: 1, applicationName: "sweep" }));
  const sweep = () => sweepAuth(db).run(new AbortController().signal);
  const resources = opened.move();
  return { system, owner, sweep, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

test("sessions go a day after they ended or expired, with their refresh tokens, and live ones stay", async () => {
  await using parts = await setUp();
  const { system, owner, sweep } = parts;
  const sessions = async () => (await owner`select id from sessions order by created_at`).map(({ id }) => id);
  const ended = await system.newUser();
  const live = await system.newUser();
  await system.asUser(AuthService).logout({ refreshToken: ended.refreshToken });
  await system.advance(DAY_MS - HOUR_MS);
  await sweep();
  assert.deepEqual(await sessions(), [ended.sessionId, live.sessionId]);
  await system.advance(2 * HOUR_MS);
  await sweep();
  assert.deepEqual(await sessions(), [live.sessionId]);
  assert.equal((await owner`select 1 from refresh_tokens`).length, 1);
  await system.advance(29 * DAY_MS);
  await sweep();
  assert.deepEqual(await sessions(), [live.sessionId], "it has just expired");
  await system.advance(DAY_MS);
  await sweep();
  assert.deepEqual(await sessions(), []);
});

test("a session whose access tokens were good until lately stays, and so does one that is locked", async () => {
  await using parts = await setUp();
  const { system, owner, sweep } = parts;
  const late = await system.newUser();
  const locked = await system.newUser();
  await owner`update sessions set ended_at = concierge_now() - interval '2 days'`;
  await system.advance(2 * HOUR_MS);
  await owner`update sessions set tokens_expire_at = concierge_now() - interval '59 minutes' where id = ${late.sessionId}`;
  await owner.begin(async (tx) => {
    await tx`select 1 from sessions where id = ${locked.sessionId} for update`;
    await sweep();
  });
  assert.equal((await owner`select 1 from sessions`).length, 2);
  await sweep();
  assert.deepEqual([...(await owner`select id from sessions`)], [{ id: late.sessionId }]);
});

test("many sessions with many refresh tokens go in batches", async () => {
  await using parts = await setUp();
  const { system, owner, sweep } = parts;
  const { userId } = await system.newUser();
  await owner`
    insert into sessions (id, account_id, generation, expires_at, ended_at, tokens_expire_at)
    select gen_random_uuid(), ${userId}, 0, concierge_now(), concierge_now() - interval '2 days', concierge_now() - interval '1 day'
    from generate_series(1, 1200)`;
  await owner`
    insert into refresh_tokens (session_id, number, token_hash)
    select id, number, sha256(convert_to(id::text || number, 'UTF8')) from sessions, generate_series(2, 12) number`;
  await sweep();
  assert.deepEqual(
    [(await owner`select 1 from sessions`).length, (await owner`select 1 from refresh_tokens`).length],
    [1, 12],
  );
});

test("attempts and device tokens go when they mean nothing any more", async () => {
  await using parts = await setUp();
  const { system, owner, sweep } = parts;
  const { email } = await system.newUser();
  await assert.rejects(system.asUser(AuthService).login({ email, password: "wrong" }));
  const left = async () => [
    (await owner`select 1 from attempt_buckets`).length,
    (await owner`select 1 from device_tokens`).length,
  ];
  await system.advance(29 * DAY_MS);
  await sweep();
  assert.deepEqual(await left(), [1, 1], "failures in a row are remembered for 30 days");
  await system.advance(2 * DAY_MS);
  await sweep();
  assert.deepEqual(await left(), [0, 1]);
  await system.advance(150 * DAY_MS);
  await sweep();
  assert.deepEqual(await left(), [0, 0]);
});

test("requests for mails that nobody could answer go after an hour", async () => {
  await using parts = await setUp();
  const { system, owner, sweep } = parts;
  const ask = () => owner`
    insert into mail_requests (id, kind, email_key, address, user_agent, request_id, next_attempt_at)
    values (gen_random_uuid(), 'reset_password', 'a@example.com', '', '', '', concierge_now() + interval '1 day')`;
  await ask();
  await system.advance(HOUR_MS - 60_000);
  await ask();
  await system.advance(61_000);
  await sweep();
  assert.equal((await owner`select 1 from mail_requests`).length, 1);
});
