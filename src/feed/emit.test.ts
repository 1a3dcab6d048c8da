import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";
import { asc } from "drizzle-orm";
import { connect } from "../db/connection.ts";
import { type Db, openDatabase, type Tx, transaction } from "../db/database.ts";
import { testDatabase } from "../testing/cluster.ts";
import { emit, event } from "./emit.ts";
import { feedOutbox, feedSubject } from "./schema.ts";

async function openTestDatabase(t: TestContext, poolSize = 4) {
  const database = await testDatabase();
  const opened = openDatabase({ url: database.runtimeUrl, poolSize, applicationName: "emit-test" });
  const sql = connect(database.runtimeUrl, { applicationName: "emit-test" });
  t.after(async () => {
    await Promise.all([opened[Symbol.asyncDispose](), sql.end()]);
    await database[Symbol.asyncDispose]();
  });
  return { db: opened.db, sql };
}

/** Any message will do: the feed does not look inside. */
function fact(subject: string, seconds = 0) {
  return event(DurationSchema, subject, { seconds: BigInt(seconds) });
}

const outbox = (db: Db) => db.select().from(feedOutbox).orderBy(asc(feedOutbox.id));

test("an event is stored as it was made, without a position", async (t) => {
  const { db } = await openTestDatabase(t);
  await transaction(db, (tx) => emit(tx, [fact("user:1", 7)]));
  const [row] = await outbox(db);
  assert.deepEqual(
    { type: row?.type, subject: row?.subject, version: row?.version, position: row?.position },
    { type: "google.protobuf.Duration", subject: "user:1", version: 1n, position: null },
  );
  assert.equal((fromBinary(DurationSchema, row!.payload) as Duration).seconds, 7n);
  assert.ok(row?.createdAt instanceof Date);
});

test("events of one call get consecutive versions per subject in the order of the list", async (t) => {
  const { db } = await openTestDatabase(t);
  await transaction(db, (tx) => emit(tx, [fact("b", 1), fact("a", 2), fact("b", 3)]));
  await transaction(db, (tx) => emit(tx, [fact("b", 4), fact("b", 5)]));
  const rows = (await outbox(db)).map((row) => [
    row.subject,
    row.version,
    fromBinary(DurationSchema, row.payload).seconds,
  ]);
  assert.deepEqual(rows, [
    ["b", 1n, 1n],
    ["a", 1n, 2n],
    ["b", 2n, 3n],
    ["b", 3n, 4n],
    ["b", 4n, 5n],
  ]);
});

test("a thousand events of one call are numbered as two are", async (t) => {
  const { db } = await openTestDatabase(t);
  const events = Array.from({ length: 1_000 }, (_, place) => fact(`subject "${(place * 7) % 300}"`, place));
  const versions = await transaction(db, (tx) => emit(tx, events));
  const rows = await outbox(db);
  assert.deepEqual(
    rows.map(({ payload }) => Number(fromBinary(DurationSchema, payload).seconds)),
    events.map((_, place) => place),
  );
  const seen = new Map<string, bigint>();
  for (const { subject, version } of rows) {
    assert.equal(version, (seen.get(subject) ?? 0n) + 1n);
    seen.set(subject, version);
  }
  assert.deepEqual(versions, seen);
});

test("no events is nothing; a second call in a transaction is a defect", async (t) => {
  const { db } = await openTestDatabase(t);
  await transaction(db, (tx) => emit(tx, []));
  const twice = async (tx: Tx) => {
    await emit(tx, [fact("a")]);
    await emit(tx, [fact("b")]);
  };
  await assert.rejects(transaction(db, twice), /called once in a transaction/);
  assert.deepEqual(await outbox(db), []);
  // @ts-expect-error a pool is not a transaction
  const wrong: Tx = db;
  assert.ok(wrong);
});

test("R-OBX-10 a rollback after the event leaves no event and no gap", async (t) => {
  const { db } = await openTestDatabase(t);
  await transaction(db, (tx) => emit(tx, [fact("user:1")]));
  const failing = transaction(db, async (tx) => {
    await emit(tx, [fact("user:1"), fact("user:2")]);
    throw new Error("the business failed");
  });
  await assert.rejects(failing, /the business failed/);
  await transaction(db, (tx) => emit(tx, [fact("user:1")]));
  const rows = await outbox(db);
  assert.deepEqual(
    rows.map((row) => [row.subject, row.version]),
    [
      ["user:1", 1n],
      ["user:1", 2n],
    ],
  );
  assert.deepEqual(await db.select().from(feedSubject), [{ subject: "user:1", version: 2n }]);
});

test("R-OBX-17 two transactions about one subject, 1,000 rounds: no gaps, ids in version order", async (t) => {
  const { db, sql } = await openTestDatabase(t, 8);
  const rounds = 1_000;
  let next = 0;
  const writer = async (others: string[]) => {
    for (let round = next++; round < rounds; round = next++) {
      const mine = `grant:${round}`;
      // lists in different orders: the sorted locking is what keeps the two from waiting for each other
      const subjects = round % 2 === 0 ? ["user:1", ...others, mine] : [mine, ...others.toReversed(), "user:1"];
      await transaction(db, (tx) =>
        emit(
          tx,
          subjects.map((subject) => fact(subject, round)),
        ),
      );
    }
  };
  await Promise.all(Array.from({ length: 8 }, () => writer(["org:1", "org:2"])));
  const [found] = await sql`
    select count(*)::int as events, max(version)::int as newest, count(distinct version)::int as versions,
           bool_and(ordered) as ordered
    from (select version, version = row_number() over (order by id) as ordered from feed_outbox where subject = 'user:1') x`;
  assert.deepEqual({ ...found }, { events: rounds, newest: rounds, versions: rounds, ordered: true });
  const [deadlocks] =
    await sql`select deadlocks::int as count from pg_stat_database where datname = current_database()`;
  assert.equal(deadlocks?.count, 0);
});
