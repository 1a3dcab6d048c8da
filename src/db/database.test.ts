import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { sql as statement } from "drizzle-orm";
import { pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { Code, reasonOf } from "../errors.ts";
import { testDatabase } from "../testing/cluster.ts";
import { connect, databaseOf } from "./connection.ts";
import { type DatabaseOptions, openDatabase, transaction } from "./database.ts";
import { DatabaseUnavailable, sqlStateOf, toConnectError } from "./errors.ts";

const account = pgTable("account", {
  id: text("id").primaryKey(),
  madeAt: timestamp("made_at", { withTimezone: true }).notNull(),
});

async function setUp(t: TestContext, options: Partial<DatabaseOptions> = {}) {
  const fresh = await testDatabase();
  const owner = connect(fresh.ownerUrl, { applicationName: "owner" });
  await owner`create table account (id text primary key, made_at timestamptz not null default concierge_now())`;
  const database = openDatabase({ url: fresh.ownerUrl, poolSize: 4, applicationName: "database-test", ...options });
  t.after(async () => {
    await owner.end();
    await database[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
    await fresh[Symbol.asyncDispose]();
  });
  return { database, db: database.db, owner };
}

test("dates come as Date, and connections carry the limits and the name", async (t) => {
  const { db } = await setUp(t, { statementTimeoutMs: 1_234 });
  await db.insert(account).values({ id: "a", madeAt: new Date(86_400_000) });
  assert.deepEqual(await db.select().from(account), [{ id: "a", madeAt: new Date(86_400_000) }]);
  const shown = statement`select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock,
    current_setting('idle_in_transaction_session_timeout') as idle, current_setting('application_name') as name,
    current_setting('TimeZone') as zone`;
  assert.deepEqual(
    { ...(await db.execute(shown))[0] },
    { statement: "1234ms", lock: "2s", idle: "10s", name: "database-test", zone: "UTC" },
  );
});

test("R-DB-06 a serialization failure runs the whole transaction again", async (t) => {
  const { db } = await setUp(t);
  const add = (id: string) =>
    transaction(
      db,
      async (tx) => {
        await tx.execute(statement`set transaction isolation level serializable`);
        const rows = await tx.select().from(account);
        await tx.insert(account).values({ id: `${id}-after-${rows.length}`, madeAt: new Date() });
      },
      { random: () => 0.5 },
    );
  await Promise.all([add("a"), add("b"), add("c")]);
  const counts = (await db.select().from(account)).map(({ id }) => id.slice(-1)).sort();
  assert.deepEqual(counts, ["0", "1", "2"]);
});

test("R-DB-06 a deadlock is run again; both transactions commit", async (t) => {
  const { db } = await setUp(t);
  await db.insert(account).values(["a", "b"].map((id) => ({ id, madeAt: new Date() })));
  const meeting = Promise.withResolvers<void>();
  let arrived = 0;
  let runs = 0;
  const lockBoth = (first: string, second: string) =>
    transaction(
      db,
      async (tx) => {
        runs++;
        await tx.execute(statement`select 1 from account where id = ${first} for update`);
        if (++arrived === 2) meeting.resolve();
        await meeting.promise;
        await tx.execute(statement`select 1 from account where id = ${second} for update`);
      },
      // A pause long enough for the other one to end.
      { random: () => 10 },
    );
  await Promise.all([lockBoth("a", "b"), lockBoth("b", "a")]);
  assert.equal(runs, 3);
});

test("R-DB-06 after three retries the caller gets ABORTED / CONFLICT", async (t) => {
  const { db } = await setUp(t);
  let runs = 0;
  const failing = transaction(db, async (tx) => {
    runs++;
    await tx.execute(statement`do $$ begin raise exception 'secret' using errcode = '40001'; end $$`);
  });
  await assert.rejects(failing, (error: Error) => {
    assert.equal(reasonOf(error), "CONFLICT");
    assert.ok(!error.message.includes("secret"));
    return true;
  });
  assert.equal(runs, 4);
});

test("an abort ends the waiting between two tries, and other errors are not retried", async (t) => {
  const { db } = await setUp(t);
  const abort = new AbortController();
  const failing = transaction(
    db,
    async (tx) => {
      abort.abort();
      await tx.execute(statement`do $$ begin raise exception 'x' using errcode = '40001'; end $$`);
    },
    { signal: abort.signal },
  );
  await assert.rejects(failing, { name: "AbortError" });
  let runs = 0;
  const broken = transaction(db, async () => {
    runs++;
    throw new Error("a rule of the domain");
  });
  await assert.rejects(broken, /a rule of the domain/);
  assert.equal(runs, 1);
});

test("R-DB-05 a pile-up behind a lock ends at the lock timeout, other tables go on", async (t) => {
  const { db, owner } = await setUp(t, { lockTimeoutMs: 50 });
  await owner`begin`;
  await owner`lock table account in access exclusive mode`;
  const blocked = await db
    .select()
    .from(account)
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  assert.equal(sqlStateOf(blocked), "55P03");
  assert.equal(toConnectError(blocked)?.code, Code.Aborted);
  await db.execute(statement`select 1 from feed_subject`);
  await owner`rollback`;
  assert.deepEqual(await db.select().from(account), []);
});

test("R-DB-09 a transaction that idles is ended and the pool heals", async (t) => {
  const { db, owner } = await setUp(t, { idleInTransactionTimeoutMs: 50 });
  const idle = transaction(db, async (tx) => {
    await tx.insert(account).values({ id: "lost", madeAt: new Date() });
    const [self] = await tx.execute<{ pid: number }>(statement`select pg_backend_pid() as pid`);
    while ((await owner`select 1 from pg_stat_activity where pid = ${self!.pid}`).length > 0);
    await tx.insert(account).values({ id: "lost too", madeAt: new Date() });
  });
  const error = await idle.catch((caught: unknown) => caught);
  assert.equal(reasonOf(toConnectError(error)), "DATABASE_UNAVAILABLE", String(error));
  assert.deepEqual(await db.select().from(account), []);
});

test("R-DB-03 terminated connections are replaced at once", async (t) => {
  const { db, database, owner } = await setUp(t);
  await Promise.all([1, 2, 3, 4].map(() => db.select().from(account)));
  await database.ping();
  await owner`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'database-test'`;
  let failures = 0;
  for (let tries = 0; tries < 100; tries++) {
    const ok = await Promise.all([db.select().from(account), database.ping()]).catch((error: unknown) => {
      assert.equal(reasonOf(toConnectError(error)), "DATABASE_UNAVAILABLE");
      failures++;
    });
    if (ok) break;
  }
  await database.ping();
  assert.ok(failures <= 5, `${failures} failures`);
});

test("a crowd that asks for the database's health gets one answer, and gets it", async (t) => {
  const { database } = await setUp(t);
  await Promise.all(Array.from({ length: 5_000 }, () => database.ping()));
});

test("a URL may name several hosts, as the driver takes them", () => {
  assert.equal(databaseOf("postgres://u:p@first:5432,second:5433/da%20ta?sslmode=require"), "da ta");
});

test("ping tells a database that is down or silent, without the URL", async (t) => {
  const silent = createServer().listen(0, "127.0.0.1");
  await once(silent, "listening");
  const sockets: Socket[] = [];
  silent.on("connection", (socket) => sockets.push(socket));
  const { port } = silent.address() as { port: number };
  const database = openDatabase({ url: `postgres://u:canary@127.0.0.1:${port}/d`, poolSize: 1, applicationName: "x" });
  t.after(() => database[Symbol.asyncDispose]());
  await assert.rejects(database.ping(), (error: Error) => {
    assert.ok(error instanceof DatabaseUnavailable);
    assert.ok(!JSON.stringify([error.message, String(error.cause), error.stack]).includes("canary"));
    return true;
  });
  for (const socket of sockets) socket.destroy();
  silent.close();
  await once(silent, "close");
  await assert.rejects(database.ping(), DatabaseUnavailable);
});
