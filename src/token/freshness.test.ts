/** Deciding about sessions without asking auth: for how long, what then, and that no session comes back that has ended. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { reasonOf } from "../errors.ts";
import { openAuth } from "../testing/auth-feed.ts";
import { until } from "../testing/until.ts";
import type { AccessClaims } from "./access-token.ts";
import { type FollowSessionsOptions, FRESH_MS, followSessions } from "./freshness.ts";

type Auth = Awaited<ReturnType<typeof openAuth>>;
const away = () => Promise.reject(new ConnectError("away", Code.Unavailable));
const unknown = () => Promise.reject(new ConnectError("unauthenticated", Code.Unauthenticated));

function watchOf({ feed, auth, clock, log }: Auth, options: Partial<FollowSessionsOptions> = {}) {
  return followSessions({ feed, auth, clock, log, allowStale: false, onKeyRemoved() {}, ...options });
}

/** Cuts the feed, and waits until what was on its way is over; knowledge is as old as the clock says from then on. */
async function cutFeed(auth: Auth): Promise<void> {
  auth.faults.Read = away;
  const asked = auth.calls.Read ?? 0;
  await until("the feed is away", () => (auth.calls.Read ?? 0) > asked + 1);
}

async function assertStale(answer: boolean | Promise<boolean>, what?: string): Promise<void> {
  const error = await Promise.resolve(answer).then((live) => assert.fail(`it answered ${live}`), ConnectError.from);
  assert.deepEqual([error.code, reasonOf(error)], [Code.Unavailable, "AUTH_STALE"], what);
  assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 1n);
}

const withSession = (claims: AccessClaims, sessionId: string): AccessClaims => ({ ...claims, sessionId });

describe("while what is known is fresh", () => {
  test("a session lives until it is told to have ended, and auth is not asked", async () => {
    await using auth = await openAuth();
    const [leaver, stayer] = [await auth.login(), await auth.login()];
    await using watch = watchOf(auth);
    await watch.caughtUp;
    const told: string[] = [];
    watch.onEnded(leaver.claims.sessionId, () => told.push("leaver"));
    watch.onEnded(stayer.claims.sessionId, () => told.push("stayer"));
    // Not a promise: nothing is waited for.
    assert.equal(watch.check(leaver.claims, "closed"), true);
    await auth.logout(leaver.refreshToken);
    await until("it is refused", () => watch.check(leaver.claims, "closed") === false);
    assert.deepEqual([watch.check(stayer.claims, "closed"), watch.endedCount, told], [true, 1, ["leaver"]]);
    assert.equal(auth.calls.CheckSession, undefined);
  });

  test("sessions that ended before are known, on however many pages auth tells of them", async () => {
    await using auth = await openAuth();
    const { claims, refreshToken } = await auth.login();
    await auth.logout(refreshToken);
    await auth.admin`
      insert into sessions (id, account_id, generation, expires_at, ended_at, tokens_expire_at)
      select gen_random_uuid(), ${claims.userId}, 0, now() + interval '1 day', now(), now() + interval '5 minutes' from generate_series(1, 25000)`;
    await using watch = watchOf(auth);
    await watch.caughtUp;
    assert.deepEqual([watch.endedCount, auth.calls.ListEndedSessions], [25_001, 3]);
    assert.equal(watch.check(claims, "closed"), false);
  });

  test("before it has heard anything, auth is asked", async () => {
    await using auth = await openAuth();
    const { claims, refreshToken } = await auth.login();
    auth.faults.ListEndedSessions = away;
    await using watch = watchOf(auth);
    assert.equal(await watch.check(claims, "closed"), true);
    await auth.logout(refreshToken);
    assert.equal(await watch.check(withSession(claims, crypto.randomUUID()), "closed"), false);
    assert.deepEqual([watch.freshAt, auth.calls.CheckSession], [undefined, 2]);
  });

  test("ended sessions are forgotten once none of their tokens would be accepted", async () => {
    await using auth = await openAuth();
    await using watch = watchOf(auth);
    await watch.caughtUp;
    await auth.publishEnd();
    await until("it is held", () => watch.endedCount === 1);
    auth.clock.advance(311_000);
    await until("it is forgotten", () => watch.endedCount === 0);
  });
});

describe("while the feed is away", () => {
  test("S-REF-16 for 4.5 s nobody is asked; then auth is, once for all who wait, and its answer counts for 4.5 s", async () => {
    await using auth = await openAuth();
    const { claims } = await auth.login();
    await using watch = watchOf(auth);
    await watch.caughtUp;
    await cutFeed(auth);
    auth.clock.advance(FRESH_MS);
    assert.equal(watch.check(claims, "closed"), true);
    auth.clock.advance(1);
    const answers = [watch.check(claims, "closed"), watch.check(claims, "until_expiry")];
    assert.deepEqual(await Promise.all(answers), [true, true]);
    assert.equal(auth.calls.CheckSession, 1);
    auth.clock.advance(FRESH_MS);
    assert.equal(watch.check(claims, "closed"), true);
    auth.clock.advance(1);
    assert.equal(await watch.check(claims, "closed"), true);
    assert.equal(auth.calls.CheckSession, 2);
    // An answer is about one session, with one generation.
    assert.equal(await watch.check({ ...claims, generation: 1 }, "closed"), false);
    assert.equal(auth.calls.CheckSession, 3);
  });

  test("S-REF-16 a session that has ended is refused by auth's answer, and stays refused when auth is away", async () => {
    await using auth = await openAuth();
    const { claims, refreshToken } = await auth.login();
    await using watch = watchOf(auth, { allowStale: true });
    await watch.caughtUp;
    await cutFeed(auth);
    await auth.logout(refreshToken);
    auth.clock.advance(FRESH_MS + 1);
    assert.equal(await watch.check(claims, "closed"), false);
    auth.faults.CheckSession = away;
    auth.clock.advance(60_000);
    assert.equal(watch.check(claims, "until_expiry"), false);
    auth.faults.Read = undefined;
    await until("it is fresh again", () => watch.freshAt === auth.clock.monotonic());
    assert.equal(watch.check(claims, "closed"), false);
  });

  test("S-REF-16 auth away as well: `closed` accepts nobody past 4.5 s and is AUTH_STALE, whatever auth's failure is", async () => {
    await using auth = await openAuth();
    const [{ claims }, leaver] = [await auth.login(), await auth.login()];
    await using watch = watchOf(auth, { allowStale: true });
    await watch.caughtUp;
    await auth.logout(leaver.refreshToken);
    await until("it is known", () => watch.endedCount === 1);
    await cutFeed(auth);
    auth.clock.advance(FRESH_MS + 1);
    for (const failure of [away, unknown, () => Promise.reject(new Error("no answer at all"))]) {
      auth.faults.CheckSession = failure;
      await assertStale(watch.check(claims, "closed"), String(failure));
    }
    assert.equal(watch.check(leaver.claims, "closed"), false);
    auth.faults.CheckSession = undefined;
    assert.equal(await watch.check(claims, "closed"), true);
  });

  test("S-REF-16 an answer of auth that does not come is given up after a second", async () => {
    await using auth = await openAuth();
    const { claims } = await auth.login();
    await using watch = watchOf(auth);
    await watch.caughtUp;
    await cutFeed(auth);
    auth.clock.advance(FRESH_MS + 1);
    auth.faults.CheckSession = async (_, signal) => {
      await once(signal, "abort");
      throw signal.reason;
    };
    const askedAt = performance.now();
    const givenUp = assertStale(watch.check(claims, "closed")).then(() => "given up");
    // Timers of one process keep their order, however late they are.
    assert.equal(await Promise.race([givenUp, delay(1_500, "still waiting", { ref: false })]), "given up");
    assert.ok(performance.now() - askedAt > 900);
  });

  test("`until_expiry` goes on where that is allowed, is counted, and stops with what becomes known", async () => {
    await using auth = await openAuth();
    const { claims } = await auth.login();
    let counted = 0;
    const onStale = () => void counted++;
    await using careful = watchOf(auth, { onStale });
    await using lenient = watchOf(auth, { allowStale: true, onStale });
    await Promise.all([careful.caughtUp, lenient.caughtUp]);
    auth.faults.CheckSession = away;
    await cutFeed(auth);
    assert.equal(lenient.check(claims, "until_expiry"), true);
    assert.equal(counted, 0);
    auth.clock.advance(FRESH_MS + 1);
    await assertStale(careful.check(claims, "until_expiry"));
    assert.equal(counted, 0);
    assert.equal(await lenient.check(claims, "until_expiry"), true);
    assert.equal(await lenient.check(claims, "until_expiry"), true);
    await assertStale(lenient.check(claims, "closed"));
    assert.equal(counted, 2);
    auth.faults.Read = undefined;
    await auth.publishEnd(claims.sessionId);
    await until("it is known", () => lenient.check(claims, "until_expiry") === false);
  });
});

describe("what nobody may believe", () => {
  test("R-OBX-14 an answer about a session that comes late says nothing", async () => {
    await using auth = await openAuth();
    const { claims } = await auth.login();
    auth.faults.Read = away;
    await using watch = watchOf(auth);
    auth.faults.CheckSession = async (pass) => {
      const answer = await pass();
      auth.clock.advance(FRESH_MS + 1);
      return answer;
    };
    await assertStale(watch.check(claims, "closed"));
    auth.faults.CheckSession = async (pass) => {
      auth.clock.advance(FRESH_MS);
      return pass();
    };
    assert.equal(await watch.check(claims, "closed"), true);
    // It is as old as the question: nothing is left of its 4.5 s.
    auth.clock.advance(1);
    auth.faults.CheckSession = away;
    await assertStale(watch.check(claims, "closed"));
  });

  test("R-OBX-14 feeds that are not complete make nobody fresh: auth is asked for every session", async () => {
    await using auth = await openAuth();
    const { claims } = await auth.login();
    auth.faults.Read = async (pass) => {
      const answer = await pass();
      Object.assign(answer.message, { complete: false });
      return answer;
    };
    await using watch = watchOf(auth);
    await until("it reads on", () => (auth.calls.Read ?? 0) >= 2);
    assert.equal(watch.freshAt, undefined);
    assert.equal(await watch.check(claims, "closed"), true);
    assert.equal(auth.calls.CheckSession, 1);
  });

  test("R-OBX-16 a restored auth that knows nothing of a logout does not bring its session back", async () => {
    await using auth = await openAuth();
    const [leaver, later] = [await auth.login(), await auth.login()];
    await using watch = watchOf(auth);
    await watch.caughtUp;
    await auth.logout(leaver.refreshToken);
    await until("it is known", () => watch.endedCount === 1);
    await auth.admin`update sessions set ended_at = null`;
    await auth.beginNewEpoch();
    await until("it begins anew", () => auth.calls.ListEndedSessions === 2);
    await auth.logout(later.refreshToken);
    await until("the other one is known, too", () => watch.endedCount === 2);
    assert.equal(await auth.auth.checkSession({ sessionId: leaver.claims.sessionId }).then(({ live }) => live), true);
    for (const { claims } of [leaver, later]) assert.equal(watch.check(claims, "closed"), false);
    auth.clock.advance(20_000);
    await until("it is fresh in the new life", () => watch.freshAt === 20_000);
  });
});
