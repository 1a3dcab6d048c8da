import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DurationSchema, EmptySchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { sql } from "drizzle-orm";
import { systemClock } from "../clock.ts";
import { connect } from "../db/connection.ts";
import { openDatabase, transaction } from "../db/database.ts";
import { reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { type TestDatabase, testDatabase } from "../testing/cluster.ts";
import { until } from "../testing/until.ts";
import { emit, event } from "./emit.ts";
import { FeedLog, type FeedQuery } from "./log.ts";
import { trimOnce } from "./retention.ts";
import type { Place } from "./tail.ts";

const log = createLogger({ level: "error", mode: "development", clock: systemClock });
const DURATION = DurationSchema.typeName;
const EMPTY = EmptySchema.typeName;
/** Rounds at once; an odd number, so that each has even and odd rounds. */
const LANES = 5;

/** A service's database with a process on it, or without one. */
async function openFeed({ begins = true }: { begins?: boolean } = {}) {
  await using opened = new AsyncDisposableStack();
  const database = opened.use(await testDatabase());
  const process = openProcess(database, opened);
  if (begins) process.feed.begin();
  const admin = connect(database.ownerUrl, { applicationName: "log-test", max: 4 });
  opened.defer(() => admin.end());
  const resources = opened.move();
  return { ...process, database, admin, opened: resources, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

function openProcess({ runtimeUrl }: TestDatabase, opened: AsyncDisposableStack) {
  const { db } = opened.use(openDatabase({ url: runtimeUrl, poolSize: 8, applicationName: "log-test" }));
  const feed = opened.use(new FeedLog({ service: "auth", url: runtimeUrl, db, log }));
  const write = (subject: string, seconds = 0) =>
    transaction(db, (tx) => emit(tx, [event(DurationSchema, subject, { seconds: BigInt(seconds) })]));
  const read = (query: Partial<FeedQuery> = {}) =>
    feed.read({
      from: "oldest",
      types: new Set([DURATION]),
      maxWaitMs: 0,
      limit: 1_000,
      signal: AbortSignal.timeout(20_000),
      ...query,
    });
  return { db, feed, write, read };
}

const subjects = ({ events }: { events: { subject: string }[] }) => events.map(({ subject }) => subject);

describe("reading", () => {
  test("what was committed is read in order, once, and goes on from there", async () => {
    await using service = await openFeed();
    for (const name of ["a", "b", "c"]) await service.write(name);
    const first = await service.read({ limit: 2 });
    assert.deepEqual([subjects(first), first.complete], [["a", "b"], false]);
    const rest = await service.read({ from: first.next });
    assert.deepEqual([subjects(rest), rest.complete], [["c"], true]);
    assert.deepEqual(
      rest.events.map(({ position, version, type }) => [position, version, type]),
      [[3n, 1n, DURATION]],
    );
    const none = await service.read({ from: rest.next });
    assert.deepEqual([none.events, none.next, none.complete], [[], rest.next, true]);
  });

  test("who waits is told at once, by the process that wrote and by another one", async () => {
    await using service = await openFeed();
    const other = openProcess(service.database, service.opened);
    other.feed.begin();
    const { next } = await service.read({ from: "newest" });
    const waiting = [service, other].map(({ read }) => read({ from: next, maxWaitMs: 20_000 }));
    await service.write("told");
    for (const answer of await Promise.all(waiting))
      assert.deepEqual([subjects(answer), answer.complete], [["told"], true]);
  });

  test("other types are passed over without an answer, and their place is", async () => {
    await using service = await openFeed();
    await service.write("unwanted");
    const waiting = service.read({ types: new Set([EMPTY]), maxWaitMs: 20_000 });
    await service.write("unwanted, too");
    await transaction(service.db, (tx) => emit(tx, [event(EmptySchema, "wanted", {})]));
    const { events, next } = await waiting;
    assert.deepEqual(
      [events.map(({ subject, position }) => [subject, position]), next.position],
      [[["wanted", 3n]], 3n],
    );
    const passed = await service.read({ types: new Set(["none"]) });
    assert.deepEqual([passed.events, passed.next.position, passed.complete], [[], 3n, true]);
  });

  test("who is far behind is served from the database, in pieces, and misses nothing", async () => {
    await using service = await openFeed();
    await service.admin`
      insert into feed_outbox (type, subject, version, payload)
      select case when n % 3000 = 0 then ${DURATION} else 'other' end, n::text, 1, '' from generate_series(1, 12000) n`;
    const seen: string[] = [];
    let from: FeedQuery["from"] = "oldest";
    await until("everything is stamped", async () => (await service.feed.status()).head.position === 12_000n);
    for (let complete = false; !complete; ) {
      const answer = await service.read({ from, limit: 3 });
      seen.push(...subjects(answer));
      ({ complete, next: from } = answer);
    }
    assert.deepEqual(seen, ["3000", "6000", "9000", "12000"]);
  });

  test("an answer is bounded in bytes, and always has an event", async () => {
    await using service = await openFeed();
    await service.admin`
      insert into feed_outbox (type, subject, version, payload)
      select ${DURATION}, n::text, 1, decode(repeat('00', 700000), 'hex') from generate_series(1, 3) n`;
    await until("everything is stamped", async () => (await service.feed.status()).head.position === 3n);
    const first = await service.read();
    assert.deepEqual([subjects(first), first.complete], [["1"], false]);
    const second = await service.read({ from: first.next });
    assert.deepEqual(subjects(second), ["2"]);
  });

  test("a reader that leaves, and one that is told to wait no longer", async () => {
    await using service = await openFeed();
    const { next } = await service.read({ from: "newest" });
    const leaving = new AbortController();
    const left = service.read({ from: next, maxWaitMs: 20_000, signal: leaving.signal });
    const stays = service.read({ from: next, maxWaitMs: 20_000 });
    leaving.abort(new Error("left"));
    await assert.rejects(left, /left/);
    service.feed.drain();
    const { events, complete } = await stays;
    assert.deepEqual([events, complete], [[], true]);
  });
});

describe("cursors", () => {
  const isLost = (error: unknown) => reasonOf(error) === "CURSOR_LOST";

  test("one from the future, of another epoch, or below what is kept is CURSOR_LOST", async () => {
    await using service = await openFeed();
    for (let count = 0; count < 5; count++) await service.write("a");
    const { next } = await service.read();
    const lost: Place[] = [
      { ...next, position: next.position + 1n },
      { epoch: "another", position: 1n },
      { epoch: "another", position: 0n },
    ];
    for (const from of lost) await assert.rejects(service.read({ from }), isLost);
    await service.admin`update feed_outbox set created_at = created_at - interval '2 hours' where position <= 3`;
    assert.deepEqual([await trimOnce(service.db, 1), await trimOnce(service.db, 1)], [3, 0]);
    await assert.rejects(service.read({ from: { ...next, position: 2n } }), isLost);
    assert.equal((await service.read({ from: { ...next, position: 3n } })).events.length, 2);
    assert.deepEqual(
      (await service.read()).events.map(({ position }) => position),
      [4n, 5n],
    );
  });

  test("when everything was trimmed, positions go on from where they were", async () => {
    await using service = await openFeed();
    await service.write("a");
    const { next } = await service.read();
    await service.admin`update feed_outbox set created_at = created_at - interval '2 hours'`;
    assert.equal(await trimOnce(service.db, 1), 1);
    await service.write("b");
    const { events } = await service.read({ from: next });
    assert.deepEqual(
      events.map(({ subject, position }) => [subject, position]),
      [["b", 2n]],
    );
  });

  test("R-OBX-16 a restored copy is another epoch, whatever its positions are", async () => {
    await using service = await openFeed();
    await service.write("a");
    const { next } = await service.read();
    await using copy = await openFeed();
    await copy.write("a");
    await copy.write("b");
    const error = await copy.read({ from: next }).catch((thrown: unknown) => thrown);
    assert.deepEqual([reasonOf(error), (error as { code: Code }).code], ["CURSOR_LOST", Code.Aborted]);
    await service.admin`update feed_state set restores = restores + 1`;
    await assert.rejects(service.read({ from: next }), isLost);
    assert.equal((await service.read()).events.length, 1);
  });
});

describe("complete", () => {
  test("R-OBX-14 not while a committed event has waited for its position for longer than 250 ms", async () => {
    // Only reads look here: one that waits to stamp would end with that.
    await using service = await openFeed({ begins: false });
    const { next } = await service.read();
    // Somebody is stopped in the middle of stamping, and nobody else can stamp.
    await using holder = await holdStamping(service.admin);
    await service.admin`
      insert into feed_outbox (type, subject, version, payload, created_at)
      values (${DURATION}, 'late', 1, '', concierge_now() - interval '1 second')`;
    const early = await service.read({ from: next });
    assert.deepEqual([early.events, early.next, early.complete], [[], next, false]);
    await holder[Symbol.asyncDispose]();
    const answer = await service.read({ from: next, maxWaitMs: 20_000 });
    assert.deepEqual([subjects(answer), answer.complete], [["late"], true]);
  });

  test("an event that was committed late comes after what was committed before it, and is not passed over", async () => {
    await using service = await openFeed();
    await using slow = await openTransaction(service.admin);
    await slow.sql`
      insert into feed_outbox (type, subject, version, payload) values (${DURATION}, 'slow', 1, '')`;
    await service.write("quick");
    const first = await service.read();
    assert.deepEqual([subjects(first), first.complete], [["quick"], true]);
    await slow.commit();
    const second = await service.read({ from: first.next, maxWaitMs: 20_000 });
    assert.deepEqual(
      second.events.map(({ subject, position }) => [subject, position]),
      [["slow", 2n]],
    );
  });

  test("R-OBX-01 what a killed process has committed is stamped by whoever comes next", async () => {
    await using service = await openFeed({ begins: false });
    await service.write("orphan");
    const other = openProcess(service.database, service.opened);
    other.feed.begin();
    const { events, complete } = await other.read();
    assert.deepEqual([subjects({ events }), complete], [["orphan"], true]);
  });
});

describe("snapshots", () => {
  test("R-OBX-18 nobody answers from a row whose end was committed before, stamped or not, 1,000 rounds", async () => {
    // Nobody stamps but snapshots: every event is committed and has no position when one is taken.
    await using service = await openFeed({ begins: false });
    const { db, feed } = service;
    const rowExists = async (tx: Pick<typeof db, "execute">, row: string) =>
      (await tx.execute(sql`select 1 from feed_subject where subject = ${row}`)).length > 0;
    let raced = 0;
    const once = async (round: number) => {
      const row = `row/${round}`;
      const subject = `fact/${round}`;
      await transaction(db, async (tx) => {
        await tx.execute(sql`insert into feed_subject values (${row}, 1)`);
        await emit(tx, [event(DurationSchema, subject, {})]);
      });
      let isDeleted = false;
      const deleting = transaction(db, async (tx) => {
        await tx.execute(sql`delete from feed_subject where subject = ${row}`);
        await emit(tx, [event(EmptySchema, subject, {})]);
      }).then(() => {
        isDeleted = true;
      });
      if (round % 2 === 0) await deleting;
      const wasDeleted = isDeleted;
      const { result, start, settled } = await feed.snapshot((tx) => rowExists(tx, row));
      await deleting;
      await db.execute(sql`select feed_stamp(10)`);
      const { events } = await service.read({ from: start, types: new Set([DURATION, EMPTY]) });
      // What a consumer holds: the snapshot, and then every event up to `settled`.
      const passed = events.filter((each) => each.subject === subject && each.position <= settled);
      const holds = passed.reduce((_, { type }) => type === DURATION, result);
      if (wasDeleted) assert.equal(holds, false, `round ${round}`);
      if (holds)
        assert.ok(
          events.some(({ type, position }) => type === EMPTY && position > settled),
          `round ${round}`,
        );
      if (holds) raced++;
    };
    const lane = async (first: number) => {
      for (let round = first; round < 1_000; round += LANES) await once(round);
    };
    await Promise.all(Array.from({ length: LANES }, (_, first) => lane(first)));
    assert.ok(raced < 500);
  });
});

type Sql = ReturnType<typeof connect>;

async function holdStamping(admin: Sql): Promise<AsyncDisposable> {
  const holder = await openTransaction(admin);
  await holder.sql`select pg_advisory_xact_lock(1664510468)`;
  return holder;
}

/** A transaction that ends when we say so. */
async function openTransaction(admin: Sql) {
  const reserved = await admin.reserve();
  await reserved`begin`;
  let isOpen = true;
  const end = async (command: "commit" | "rollback") => {
    if (!isOpen) return;
    isOpen = false;
    await reserved.unsafe(command);
    reserved.release();
  };
  return { sql: reserved, commit: () => end("commit"), [Symbol.asyncDispose]: () => end("rollback") };
}
