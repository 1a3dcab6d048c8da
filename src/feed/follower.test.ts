import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type Duration,
  DurationSchema,
  durationMs,
  StringValueSchema,
  timestampFromDate,
} from "@bufbuild/protobuf/wkt";
import { sql } from "drizzle-orm";
import { ReadRequestSchema, ReadResponseSchema } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { systemClock } from "../clock.ts";
import { connect } from "../db/connection.ts";
import { type Db, openDatabase, type Tx, transaction } from "../db/database.ts";
import { dependencyUnavailable } from "../errors.ts";
import { armFailpoint, heldFailpoint } from "../failpoints.ts";
import { createLogger } from "../log.ts";
import { whenAborted } from "../rpc/until-aborted.ts";
import { createTestClock } from "../testing/clock.ts";
import { testCluster, testDatabase } from "../testing/cluster.ts";
import { until } from "../testing/until.ts";
import { loadCursor, moveCursor } from "./cursors.ts";
import { emit, event, type OutboxEvent } from "./emit.ts";
import { type FollowerOptions, on, type RunningFollower, startFollower } from "./follower.ts";
import { FeedLog } from "./log.ts";
import { feedCursor, feedParked } from "./schema.ts";

/** As pg_stat_activity shows the followers' connections. */
const REPLICAS = "follower-test replicas";

/** Two services: `shop`, which publishes, and `post`, which follows it and writes down what it has done. */
async function openServices(t: TestContext) {
  const opened = new AsyncDisposableStack();
  t.after(() => opened.disposeAsync());
  const [shop, post] = [opened.use(await testDatabase()), opened.use(await testDatabase())];
  const owner = connect(post.ownerUrl, { applicationName: "follower-test" });
  await owner.unsafe("create table done (number bigint generated always as identity, event text, subject text)");
  await owner.unsafe("grant select, insert on done to public");
  await owner.end();
  const open = (url: string, applicationName = "follower-test") =>
    opened.use(openDatabase({ url, poolSize: 6, applicationName })).db;
  const logLines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void logLines.push(JSON.parse(line)) };
  const log = createLogger({ level: "debug", mode: "development", destination });
  const source = { service: "shop", url: shop.runtimeUrl, db: open(shop.runtimeUrl) };
  const feed = opened.use(new FeedLog({ ...source, log }));
  feed.begin();
  const edge = { away: false, reads: 0 };
  const target = open(post.runtimeUrl);
  const replicasDb = open(post.runtimeUrl, REPLICAS);
  return {
    ...{ source: source.db, target, targetName: post.name, edge, logLines, clientOfShop: clientOf(feed, edge) },
    messages: () => logLines.map(({ msg }) => msg),
    publish: (events: OutboxEvent[]) => transaction(source.db, (tx) => emit(tx, events)),
    follow(effects = [on(DurationSchema, writeDown)], options: Partial<FollowerOptions> = {}): RunningFollower {
      const follower = { source: "shop", effects };
      const client = clientOf(feed, edge);
      return opened.use(
        startFollower({ follower, service: "post", db: replicasDb, client, clock: systemClock, log, ...options }),
      );
    },
  };
}

/** What FeedInternalService does, without the way there. */
function clientOf(feed: FeedLog, edge: { away: boolean; reads: number }): FollowerOptions["client"] {
  return {
    async read(init, { signal } = {}) {
      edge.reads += 1;
      if (edge.away) throw dependencyUnavailable(new Error("the test has cut it"));
      const request = create(ReadRequestSchema, init as object);
      const { from, types, limit } = request;
      const answer = await feed.read({
        from: from.case === "cursor" ? from.value : "oldest",
        types: new Set(types),
        maxWaitMs: durationMs(request.maxWait!),
        ...{ limit, signal: signal! },
      });
      const events = answer.events.map((one) => ({ ...one, createdAt: timestampFromDate(one.createdAt) }));
      return create(ReadResponseSchema, { events, next: answer.next, complete: answer.complete });
    },
  };
}

async function writeDown(tx: Tx, _: unknown, { id, subject }: { id: string; subject: string }): Promise<void> {
  await tx.execute(sql`insert into done (event, subject) values (${id}, ${subject})`);
}

async function done(db: Db): Promise<{ event: string; subject: string }[]> {
  return [
    ...(await db.execute<{ event: string; subject: string }>(sql`select event, subject from done order by number`)),
  ];
}

const ids = async (db: Db) => (await done(db)).map(({ event: id }) => id);
const fact = (subject: string, seconds = 0) => event(DurationSchema, subject, { seconds: BigInt(seconds) });
const numbered = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => `shop/${from + n}`);

test("every event is done in order, the oldest that is kept first; the next process goes on from there", async (t) => {
  const { publish, follow, target, edge } = await openServices(t);
  await publish([fact("a"), event(StringValueSchema, "b", {}), fact("b")]);
  const first = follow();
  assert.equal(first.freshAt, undefined);
  const before = systemClock.monotonic();
  await first.caughtUp;
  assert.deepEqual(await ids(target), ["shop/1", "shop/3"]);
  assert.ok(first.freshAt! <= systemClock.monotonic() && first.freshAt! >= before - 1_000);
  await first[Symbol.asyncDispose]();
  const { reads } = edge;
  await publish([fact("a"), fact("c")]);
  await follow().caughtUp;
  assert.deepEqual(await ids(target), ["shop/1", "shop/3", "shop/4", "shop/5"]);
  assert.ok(edge.reads > reads);
});

test("what effects publish is published with them, whether they share a transaction or not", async (t) => {
  const { publish, follow, target } = await openServices(t);
  await publish([fact("a", 1), fact("b", 2), fact("a", 3)]);
  const pass = async (_: Tx, { seconds }: Duration) => [fact("copy", Number(seconds))];
  const follower = follow([on(DurationSchema, pass)]);
  await follower.caughtUp;
  await publish([fact("a", 4)]);
  const copies = () => target.execute(sql`select version from feed_outbox where subject = 'copy' order by id`);
  await until("the fourth copy", async () => (await copies()).length === 4);
  assert.deepEqual(
    (await copies()).map(({ version }) => Number(version)),
    [1, 2, 3, 4],
  );
});

test("a cursor that passes other events is written at the first and then once a second", async (t) => {
  const { publish, follow, target, edge } = await openServices(t);
  const clock = createTestClock();
  const other = () => publish([event(StringValueSchema, "x", {})]);
  const position = async () => (await target.select().from(feedCursor))[0]?.position;
  await other();
  const follower = follow(undefined, { clock });
  await follower.caughtUp;
  assert.equal(await position(), 1n);
  await other();
  const passed = edge.reads;
  await until("two more reads", () => edge.reads >= passed + 2);
  assert.equal(await position(), 1n);
  clock.advance(1_000);
  await until("the cursor", async () => (await position()) === 2n);
  assert.deepEqual(await ids(target), []);
});

test("R-OBX-11 a replica that is cut between effect and commit has done nothing, and the next one does it once", async (t) => {
  const { publish, follow, target, targetName } = await openServices(t);
  await publish([fact("a"), fact("b")]);
  const held = heldFailpoint("follower.before_commit");
  t.after(() => held[Symbol.dispose]());
  const dying = follow();
  await held.reached;
  await cutConnections(targetName);
  const end = dying[Symbol.asyncDispose]();
  held.release();
  await end;
  assert.deepEqual(await ids(target), []);
  await follow().caughtUp;
  assert.deepEqual(await ids(target), numbered(1, 2));
});

test("R-OBX-11 two replicas, cut before the commit and lost after it again and again: every effect once", async (t) => {
  const { publish, follow, target, targetName } = await openServices(t);
  let [commits, cuts, losses] = [0, 0, 0];
  const before = armFailpoint("follower.before_commit", async () => {
    if (++commits % 5 !== 0 || cuts >= 8) return;
    cuts += 1;
    await cutConnections(targetName);
  });
  const after = armFailpoint("follower.after_commit", async () => {
    if (commits % 3 !== 0 || losses >= 8) return;
    losses += 1;
    throw new Error("nobody has heard of the commit");
  });
  t.after(() => {
    before[Symbol.dispose]();
    after[Symbol.dispose]();
  });
  const replicas = [follow(), follow()];
  for (let round = 0; round < 60; round++) {
    await publish([fact("a"), fact(`b${round}`), fact("a")]);
    if (round % 4 === 0) await until("some of them", async () => (await counted(target)) > round);
  }
  await until("all of them", async () => (await counted(target)) >= 180, 30_000);
  await Promise.all(replicas.map((replica) => replica.caughtUp));
  const all = await done(target);
  assert.deepEqual(
    all.map(({ event: id }) => id),
    numbered(1, 180),
  );
  assert.deepEqual([await target.select().from(feedParked), cuts > 0, losses > 0], [[], true, true]);
});

test("a replica that is never the first one has what the other has done", async (t) => {
  const { publish, follow, target, clientOfShop } = await openServices(t);
  const slower: FollowerOptions["client"] = {
    async read(init, options) {
      await publish([fact("a")]);
      const answer = await clientOfShop.read(init, options);
      await moveCursor(target, "shop", await loadCursor(target, "shop"), answer.next!);
      return answer;
    },
  };
  const follower = follow(undefined, { client: slower });
  await follower.caughtUp;
  const before = follower.freshAt!;
  await until("it is fresh again", async () => follower.freshAt! > before);
  assert.deepEqual(await ids(target), []);
});

test("a poison event is parked, its subject's later events wait behind it, others go on; then it is done, once and in order", async (t) => {
  const { publish, follow, target, logLines } = await openServices(t);
  const poison = { works: false, tries: 0 };
  const effect = async (tx: Tx, { seconds }: Duration, one: Parameters<typeof writeDown>[2]): Promise<void> => {
    await writeDown(tx, undefined, one);
    if (seconds !== 13n || poison.works) return;
    poison.tries += 1;
    throw new TypeError("secret words of the payload");
  };
  const clock = createTestClock();
  const follower = follow([on(DurationSchema, effect)], { clock });
  await publish([fact("a"), fact("bad", 13), fact("b"), fact("bad"), fact("c")]);
  await until("the others", async () => (await counted(target)) === 3);
  await publish([fact("bad"), fact("d")]);
  await until("the one after", async () => (await counted(target)) === 4);
  assert.deepEqual(await ids(target), ["shop/1", "shop/3", "shop/5", "shop/7"]);
  // once with the others, then alone
  assert.equal(poison.tries, 6);
  await until("its count", () => follower.parked === 3);
  await until("freshness", () => follower.freshAt !== undefined);
  const parked = logLines.filter(({ msg }) => msg === "an event was parked");
  const { event: id, type, subject, source, reason } = parked[0]!;
  assert.deepEqual(
    [parked.length, id, type, subject, source, reason],
    [1, "shop/2", "google.protobuf.Duration", "bad", "shop", "TypeError"],
  );
  assert.ok(!JSON.stringify(logLines).includes("secret words"));

  clock.advance(60_000);
  await until("another try", () => poison.tries === 7);
  assert.equal((await target.select().from(feedParked)).length, 3);
  poison.works = true;
  const second = follow([on(DurationSchema, effect)], { everyMs: 1 });
  await until("everything", () => {
    // One of them may find that the other one is just trying them.
    clock.advance(60_000);
    return follower.parked === 0 && second.parked === 0;
  });
  await publish([fact("bad")]);
  await until("what came later", async () => (await counted(target)) === 8);
  assert.deepEqual((await ids(target)).slice(4), ["shop/2", "shop/4", "shop/6", "shop/8"]);
});

test("a payload that cannot be read is parked at once", async (t) => {
  const { publish, follow, target, logLines } = await openServices(t);
  await publish([{ ...fact("bad"), payload: Uint8Array.of(0xff) }, fact("a")]);
  const follower = follow();
  await follower.caughtUp;
  assert.deepEqual([await ids(target), follower.parked], [["shop/2"], 1]);
  assert.equal(logLines.find(({ msg }) => msg === "an event was parked")?.reason, "UnreadablePayload");
});

test("replicas that try parked events again at the same time keep each subject's order", async (t) => {
  const { publish, follow, target } = await openServices(t);
  const unreadable = (subject: string) => ({ ...fact(subject), payload: Uint8Array.of(0xff) });
  const subjects = ["a", "b", "c", "d"];
  const events: OutboxEvent[] = subjects.map(unreadable);
  for (let round = 0; round < 20; round++) events.push(...subjects.map((subject) => fact(subject)));
  await publish(events);
  const parking = follow();
  await parking.caughtUp;
  await parking[Symbol.asyncDispose]();
  assert.equal(parking.parked, 84);

  await target.update(feedParked).set({ payload: toBinary(DurationSchema, create(DurationSchema)) });
  const replicas = Array.from({ length: 4 }, () => follow(undefined, { everyMs: 1 }));
  await until("all of them", async () => (await counted(target)) >= 84);
  await Promise.all(replicas.map((replica) => replica[Symbol.asyncDispose]()));
  const all = await done(target);
  for (const [index, subject] of subjects.entries()) {
    const mine = all.filter((one) => one.subject === subject).map(({ event: id }) => id);
    assert.deepEqual(
      mine,
      Array.from({ length: 21 }, (_, round) => `shop/${round * 4 + index + 1}`),
    );
  }
});

test("a lost cursor: the follower begins anew with the oldest event that is kept", async (t) => {
  const { publish, follow, source, target, messages } = await openServices(t);
  await publish([fact("a"), fact("b")]);
  follow();
  await until("both", async () => (await counted(target)) === 2);
  const [before] = await target.select().from(feedCursor);
  await source.execute(sql`update feed_state set restores = restores + 1`);
  await until("both again", async () => (await counted(target)) === 4);
  await publish([fact("a")]);
  await until("the new one", async () => (await counted(target)) === 5);
  assert.deepEqual(await ids(target), ["shop/1", "shop/2", "shop/1", "shop/2", "shop/3"]);
  const [after] = await target.select().from(feedCursor);
  assert.notEqual(after?.epoch, before?.epoch);
  assert.equal(messages().filter((line) => /has lost the cursor/.test(String(line))).length, 1);
});

test("a restored feed that gives a parked event's id to another event: that one is parked in its place", async (t) => {
  const { publish, follow, source, target } = await openServices(t);
  const unreadable = { ...fact("old"), payload: Uint8Array.of(0xff) };
  await publish([unreadable]);
  const follower = follow();
  await follower.caughtUp;
  await source.execute(sql`update feed_outbox set subject = 'new'`);
  await source.execute(sql`update feed_state set restores = restores + 1`);
  const parked = async () => (await target.select().from(feedParked)).map(({ eventId, subject }) => [eventId, subject]);
  await until("the other one", async () => (await parked())[0]?.[1] === "new");
  assert.deepEqual(await parked(), [["shop/1", "new"]]);
});

test("while the source is away the follower waits and says so once; then it goes on", async (t) => {
  const { publish, follow, target, edge, messages } = await openServices(t);
  const follower = follow();
  await follower.caughtUp;
  edge.away = true;
  const before = edge.reads;
  await publish([fact("a")]);
  await until("three tries", () => edge.reads >= before + 3);
  edge.away = false;
  await until("the event", async () => (await ids(target)).length > 0);
  await until("both messages", () => messages().length >= 2);
  assert.deepEqual(messages(), ["follower waits for shop", "follows shop again"]);
});

test("a source that is away at the start is no news before it stays away", async (t) => {
  const { publish, follow, target, edge, messages } = await openServices(t);
  edge.away = true;
  const follower = follow();
  await publish([fact("a")]);
  await until("three tries", () => edge.reads >= 3);
  assert.equal(follower.freshAt, undefined);
  edge.away = false;
  await follower.caughtUp;
  assert.deepEqual(await ids(target), ["shop/1"]);
  assert.deepEqual(messages(), []);
});

test("it ends while it waits for an event, for the source, or for the next try of an effect; twice is no fault", async (t) => {
  const { publish, follow, target, edge } = await openServices(t);
  const asked = Promise.withResolvers<void>();
  const endless: FollowerOptions["client"] = {
    read(_, { signal } = {}) {
      asked.resolve();
      return whenAborted(signal!);
    },
  };
  const waiting = follow(undefined, { client: endless });
  await asked.promise;
  await waiting[Symbol.asyncDispose]();
  await waiting[Symbol.asyncDispose]();

  edge.away = true;
  const outside = follow();
  await until("tries", () => edge.reads >= 4);
  await outside[Symbol.asyncDispose]();

  edge.away = false;
  await publish([fact("a")]);
  const tried = Promise.withResolvers<void>();
  const failing = async (): Promise<void> => {
    tried.resolve();
    throw new Error("not now");
  };
  const trying = follow([on(DurationSchema, failing)]);
  await tried.promise;
  await trying[Symbol.asyncDispose]();
  // the end of the follower is no fault of the event
  assert.deepEqual(await target.select().from(feedParked), []);
});

test("two effects of one event are a mistake", async (t) => {
  const { follow } = await openServices(t);
  assert.throws(() => follow([on(DurationSchema, writeDown), on(DurationSchema, writeDown)]), /two effects/);
});

async function counted(db: Db): Promise<number> {
  const [row] = await db.execute<{ count: number }>(sql`select count(*)::int as count from done`);
  return row!.count;
}

/** Ends the connections of the followers to a database, as the death of their processes would. */
async function cutConnections(name: string): Promise<void> {
  const { adminUrl } = await testCluster();
  const admin = connect(adminUrl, { applicationName: "follower-test-admin" });
  await admin`
    select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name} and application_name = ${REPLICAS}`;
  await admin.end();
}
