/** Followers in memory: what they hand over, and when they may believe that they have everything. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { SessionEndedSchema } from "../../gen/concierge/auth/v1/auth_events_pb.ts";
import type { Event, ReadResponse } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { openAuth } from "../testing/auth-feed.ts";
import { until } from "../testing/until.ts";
import { type LiveFollower, type LiveFollowerOptions, startLiveFollower } from "./live-follower.ts";

type Auth = Awaited<ReturnType<typeof openAuth>>;
const away = () => Promise.reject(new ConnectError("away", Code.Unavailable));

/** Follows the ends of sessions; `seen` are those that were handed over. */
function follow({ feed: client, clock, log }: Auth, options: Partial<LiveFollowerOptions> = {}) {
  const seen: string[] = [];
  const onEvents = (events: Event[]) =>
    void seen.push(...events.map(({ payload }) => fromBinary(SessionEndedSchema, payload).sessionId));
  const types = [SessionEndedSchema];
  const follower = startLiveFollower({ source: "auth", types, client, clock, log, onEvents, ...options });
  return { seen, follower, [Symbol.asyncDispose]: () => follower[Symbol.asyncDispose]() };
}

/** Where the feed is now, as a snapshot says it. */
async function placeNow({ auth }: Auth) {
  const { start, settledPosition } = await auth.listEndedSessions({});
  return { start: start!, settledPosition };
}

const ids = (count: number) => Array.from({ length: count }, () => crypto.randomUUID());

describe("a follower in memory", () => {
  test("hands over what happens, in order, from the newest on", async () => {
    await using auth = await openAuth();
    const [before, ...later] = ids(6) as [string, ...string[]];
    await auth.publishEnd(before);
    await using watch = follow(auth);
    await watch.follower.caughtUp;
    for (const id of later) await auth.publishEnd(id);
    await until("all of it was handed over", () => watch.seen.length === 5);
    assert.deepEqual(watch.seen, later);
  });

  test("begins where its snapshot says", async () => {
    await using auth = await openAuth();
    const beginning = await placeNow(auth);
    const happened = ids(3);
    for (const id of happened) await auth.publishEnd(id);
    await using watch = follow(auth, { begin: async () => beginning });
    await watch.follower.caughtUp;
    assert.deepEqual(watch.seen, happened);
  });

  test("an outage is logged once, and nothing is missed by it", async () => {
    await using auth = await openAuth();
    await using watch = follow(auth);
    await watch.follower.caughtUp;
    const happened = ids(2);
    auth.faults.Read = away;
    await until("the feed is missed", () => auth.logLines.some(({ msg }) => msg === "waits for the feed of auth"));
    for (const id of happened) await auth.publishEnd(id);
    const asked = auth.calls.Read!;
    await until("it was tried some times", () => auth.calls.Read! > asked + 2);
    auth.faults.Read = undefined;
    await until("all of it was handed over", () => watch.seen.length === 2);
    assert.deepEqual(watch.seen, happened);
    await until("it says so", () => auth.logLines.some(({ msg }) => msg === "follows auth again"));
    assert.equal(auth.logLines.filter(({ msg }) => String(msg).startsWith("waits for")).length, 1);
  });

  test("a cursor that is lost makes it begin anew, with a snapshot or with the newest", async () => {
    await using auth = await openAuth();
    let snapshots = 0;
    const begin = () => {
      snapshots++;
      return placeNow(auth);
    };
    await using careful = follow(auth, { begin });
    await using simple = follow(auth);
    await Promise.all([careful.follower.caughtUp, simple.follower.caughtUp]);
    await auth.beginNewEpoch();
    const lost = () => auth.logLines.filter(({ msg }) => msg === "begins anew with auth").length;
    await until("both have noticed", () => lost() === 2);
    await until(
      "both are on again",
      () => auth.logLines.filter(({ msg }) => msg === "follows auth again").length === 2,
    );
    const [id] = ids(1);
    await auth.publishEnd(id);
    await until("both go on", () => careful.seen.includes(id!) && simple.seen.includes(id!));
    assert.equal(snapshots, 2);
  });

  test("a peer that keeps nobody waiting is not asked without a pause", async () => {
    await using auth = await openAuth();
    await using watch = follow(auth);
    await watch.follower.caughtUp;
    const next = (await placeNow(auth)).start;
    auth.faults.Read = async (pass) => {
      // What it would have answered after a second, at once.
      const answer = await pass();
      Object.assign(answer.message, { events: [], next });
      return answer;
    };
    await until("it has a cursor", () => auth.calls.Read! >= 3);
    const asked = auth.calls.Read!;
    const startedAt = performance.now();
    await until("half a second is over", () => performance.now() - startedAt > 500);
    assert.ok(auth.calls.Read! - asked <= 11, `${auth.calls.Read! - asked} questions`);
  });

  test("it ends while it waits for an event, while it waits for its peer, and twice", async () => {
    await using auth = await openAuth();
    const waiting = follow(auth);
    await waiting.follower.caughtUp;
    await waiting[Symbol.asyncDispose]();
    await waiting[Symbol.asyncDispose]();
    auth.faults.Read = away;
    const alone = follow(auth);
    await until("it has failed", () => auth.logLines.some(({ msg }) => msg === "waits for the feed of auth"));
    await alone[Symbol.asyncDispose]();
    const asked = auth.calls.Read!;
    await until("a moment passes", () => new Promise((resolve) => setTimeout(() => resolve(true), 100)));
    assert.equal(auth.calls.Read, asked);
  });
});

describe("what a follower may believe", () => {
  test("it is fresh as of when it SENT the Read, and not before everything was handed over", async () => {
    await using auth = await openAuth();
    const beginning = await placeNow(auth);
    await auth.publishEnd();
    const freshAtEvents: (number | undefined)[] = [];
    let held: LiveFollower | undefined;
    auth.faults.Read = async (pass) => {
      const answer = await pass();
      auth.clock.advance(1_000);
      return answer;
    };
    const sentAt = auth.clock.monotonic();
    const onEvents = () => void freshAtEvents.push(held?.freshAt);
    await using watch = follow(auth, { begin: async () => beginning, onEvents });
    held = watch.follower;
    await held.caughtUp;
    assert.equal(held.freshAt, sentAt);
    assert.deepEqual(freshAtEvents, [undefined]);
  });

  test("R-OBX-14 an answer that is not complete makes nobody fresh", async () => {
    await using auth = await openAuth();
    let complete = false;
    auth.faults.Read = async (pass) => {
      const answer = await pass();
      (answer.message as ReadResponse).complete &&= complete;
      return answer;
    };
    await using watch = follow(auth);
    const [id] = ids(1);
    await until("it reads", () => auth.calls.Read! >= 2);
    await auth.publishEnd(id);
    await until("it hears", () => watch.seen.includes(id!));
    assert.equal(watch.follower.freshAt, undefined);
    complete = true;
    await watch.follower.caughtUp;
    complete = false;
    auth.clock.advance(10_000);
    const [freshAt, asked] = [watch.follower.freshAt, auth.calls.Read!];
    await until("it reads on", () => auth.calls.Read! >= asked + 2);
    assert.equal(watch.follower.freshAt, freshAt);
  });

  test("R-OBX-14 a Read that was sent before a pause does not count from its answer", async () => {
    await using auth = await openAuth();
    await using watch = follow(auth);
    await watch.follower.caughtUp;
    const stopped = Promise.withResolvers<void>();
    auth.clock.advance(100);
    const asked = auth.calls.Read!;
    auth.faults.Read = async (pass) => {
      const answer = await pass();
      await stopped.promise;
      return answer;
    };
    await until("a Read is under way that will be stopped", () => auth.calls.Read! > asked);
    auth.clock.advance(60_000);
    auth.faults.Read = away;
    stopped.resolve();
    await until("the next one fails", () => auth.calls.Read! > asked + 1);
    assert.equal(watch.follower.freshAt, 100);
  });

  test("it is not fresh before it has passed what its snapshot may lack", async () => {
    await using auth = await openAuth();
    const { start, settledPosition } = await placeNow(auth);
    await using watch = follow(auth, { begin: async () => ({ start, settledPosition: settledPosition + 2n }) });
    await auth.publishEnd();
    await until("the first is there", () => watch.seen.length === 1);
    const asked = auth.calls.Read!;
    await until("it has read on", () => auth.calls.Read! > asked + 1);
    assert.equal(watch.follower.freshAt, undefined);
    await auth.publishEnd();
    await watch.follower.caughtUp;
    assert.equal(watch.seen.length, 2);
  });

  test("events that cannot be taken are asked for again, and it is not fresh", async () => {
    await using auth = await openAuth();
    const beginning = await placeNow(auth);
    await auth.publishEnd();
    let tries = 0;
    const onEvents = () => {
      tries++;
      if (tries < 3) throw new Error("not now");
    };
    await using watch = follow(auth, { begin: async () => beginning, onEvents });
    await until("it was tried", () => tries >= 1);
    assert.equal(watch.follower.freshAt, undefined);
    await watch.follower.caughtUp;
    assert.equal(tries, 3);
  });
});
