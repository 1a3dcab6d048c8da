import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect as connectSocket, createServer } from "node:net";
import test, { type TestContext } from "node:test";
import { sql as statement } from "drizzle-orm";
import { reasonOf } from "../errors.ts";
import { testDatabase } from "../testing/cluster.ts";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import { until } from "../testing/until.ts";
import { connect } from "./connection.ts";
import { type DatabaseOptions, type Db, during, openDatabase, type Tx, transaction } from "./database.ts";
import { toConnectError } from "./errors.ts";

async function setUp(t: TestContext, options: Partial<DatabaseOptions> = {}) {
  const fresh = await testDatabase();
  const owner = connect(fresh.ownerUrl, { applicationName: "owner" });
  await owner`create table entry (id text primary key)`;
  const database = openDatabase({ url: fresh.ownerUrl, poolSize: 2, applicationName: "pool-test", ...options });
  t.after(async () => {
    await owner.end();
    await database[Symbol.asyncDispose]();
    await fresh[Symbol.asyncDispose]();
  });
  return { db: database.db, database, owner };
}

const insert = (db: Db | Tx, id: string) => db.execute(statement`insert into entry values (${id})`);

async function backendOf(tx: Tx): Promise<number> {
  const [row] = await tx.execute<{ pid: number }>(statement`select pg_backend_pid() as pid`);
  return row!.pid;
}

async function entries(owner: ReturnType<typeof connect>): Promise<unknown[]> {
  return (await owner`select id from entry order by id`).map((row) => row.id);
}

test("a transaction whose connection is cut between statements fails; nothing of it is stored, in no other one either", async (t) => {
  const { db, owner } = await setUp(t, { poolSize: 1 });
  const waiting = Promise.withResolvers<void>();
  const cut = transaction(db, async (tx) => {
    await insert(tx, "before");
    const pid = await backendOf(tx);
    await owner`select pg_terminate_backend(${pid}, 5000)`;
    await waiting.promise;
    await insert(tx, "after");
  });
  const outcome = cut.catch((error: unknown) => error);
  // this one gets the place in the pool as soon as the loss is seen, while the lost one goes on sending
  await transaction(db, async (tx) => {
    await insert(tx, "other");
    waiting.resolve();
    await outcome;
  });
  assert.equal(reasonOf(toConnectError(await outcome)), "DATABASE_UNAVAILABLE");
  assert.deepEqual(await entries(owner), ["other"]);
});

test("a transaction whose connection is cut inside a statement fails and the pool goes on", async (t) => {
  const { db, owner } = await setUp(t, { poolSize: 1 });
  const pid = Promise.withResolvers<number>();
  const cut = transaction(db, async (tx) => {
    await insert(tx, "before");
    pid.resolve(await backendOf(tx));
    await tx.execute(statement`select pg_sleep(30)`);
  }).catch((error: unknown) => error);
  await owner`select pg_terminate_backend(${await pid.promise}, 5000)`;
  assert.equal(reasonOf(toConnectError(await cut)), "DATABASE_UNAVAILABLE");
  await insert(db, "after");
  assert.deepEqual(await entries(owner), ["after"]);
});

test("a failure that the transaction caught does not become a silent rollback", async (t) => {
  const { db, owner } = await setUp(t);
  await insert(db, "a");
  const swallowing = transaction(db, async (tx) => {
    await insert(tx, "b");
    await insert(tx, "a").catch(() => {});
  });
  await assert.rejects(swallowing, (error) => toConnectError(error)?.message.includes("already") ?? false);
  await transaction(db, async (tx) => {
    await insert(tx, "c");
    await tx.transaction((inner) => insert(inner, "a")).catch(() => {});
    await tx.transaction((inner) => insert(inner, "d"));
  });
  assert.deepEqual(await entries(owner), ["a", "c", "d"]);
});

test("a statement sent after its transaction ended is refused", async (t) => {
  const { db, owner } = await setUp(t);
  let kept: Tx | undefined;
  await transaction(db, async (tx) => {
    kept = tx;
  });
  await assert.rejects(insert(kept!, "late"), (error: Error) =>
    /after its transaction had ended/.test(String(error.cause)),
  );
  assert.deepEqual(await entries(owner), []);
});

test("R-DB-04 with every connection busy, waiters fail in time and the pool recovers", async (t) => {
  const { database, db } = await setUp(t, { poolTimeoutMs: 50 });
  for (const warmUp of ["a", "b"]) await insert(db, warmUp);
  const release = Promise.withResolvers<void>();
  const busy = [1, 2].map(() => transaction(db, () => release.promise));
  await until("both are busy", () => database.poolCounts().used === 2);
  const waiters = await Promise.allSettled(Array.from({ length: 50 }, (_, index) => insert(db, `w${index}`)));
  for (const waiter of waiters) {
    assert.equal(waiter.status, "rejected");
    assert.equal(reasonOf(toConnectError(waiter.reason)), "DATABASE_UNAVAILABLE");
  }
  release.resolve();
  await Promise.all(busy);
  for (let index = 0; index < 50; index++) await insert(db, `x${index}`);
});

test("R-DB-01 a server that is away is tried ten times a second, however many ask; whoever asks as it is back is answered", async (t) => {
  const fresh = await testDatabase();
  const target = new URL(fresh.ownerUrl);
  await using proxy = await startFaultProxy({ host: target.hostname, port: Number(target.port) });
  target.port = String(proxy.port);
  target.hostname = proxy.host;
  const database = openDatabase({ url: target.href, poolSize: 10, applicationName: "pool-test" });
  t.after(async () => {
    await database[Symbol.asyncDispose]();
    await fresh[Symbol.asyncDispose]();
  });
  const ask = () => database.db.execute(statement`select 1`);
  const crowd = (count: number) => Promise.allSettled(Array.from({ length: count }, ask));
  const answered = (ends: PromiseSettledResult<unknown>[]) =>
    ends.filter(({ status }) => status === "fulfilled").length;
  await ask();
  proxy.reset();
  // Those that are open end, and as many tries as there is room for come too late to know.
  await crowd(100);
  const [startedAt, before] = [performance.now(), proxy.accepted];
  for (let round = 0; round < 5; round++) assert.equal(answered(await crowd(200)), 0);
  const tries = proxy.accepted - before;
  const most = (performance.now() - startedAt) / 99 + 1;
  assert.ok(tries >= 1 && tries <= most, `${tries} tries, ${most} at most`);
  await proxy.heal();
  assert.equal(answered(await crowd(200)), 200);
});

test("R-DB-01 a try that is lost on its way holds nobody up whom another one would reach", async (t) => {
  const fresh = await testDatabase();
  const url = new URL(fresh.ownerUrl);
  const [host, port] = [url.hostname, Number(url.port)];
  // The first one is refused, the second one gets no answer, later ones come through.
  let connections = 0;
  const server = createServer((client) => {
    connections += 1;
    client.on("error", () => {});
    if (connections === 1) client.resetAndDestroy();
    if (connections > 2) client.pipe(connectSocket(port, host)).pipe(client);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  url.port = String((server.address() as AddressInfo).port);
  url.hostname = "127.0.0.1";
  const database = openDatabase({ url: url.href, poolSize: 10, applicationName: "pool-test" });
  t.after(async () => {
    await database[Symbol.asyncDispose]();
    server.close();
    await fresh[Symbol.asyncDispose]();
  });
  const ask = () => database.db.execute(statement`select 1`);
  await assert.rejects(ask());
  const ends = await Promise.allSettled([ask(), ask(), ask()]);
  assert.deepEqual(
    ends.map(({ status }) => status),
    ["rejected", "fulfilled", "fulfilled"],
  );
});

test("closing waits for what runs, refuses what comes, and does not outlast its limit", async (t) => {
  const { db, database, owner } = await setUp(t);
  const release = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  const running = transaction(db, async (tx) => {
    await insert(tx, "kept");
    started.resolve();
    await release.promise;
  });
  await started.promise;
  const closing = database[Symbol.asyncDispose]();
  await assert.rejects(insert(db, "refused"), (error) => toConnectError(error) !== undefined);
  release.resolve();
  await Promise.all([running, closing]);
  assert.deepEqual(await entries(owner), ["kept"]);
});

test("the pool says how many connections are used and free, and how much waits for one", async (t) => {
  const { database, db } = await setUp(t, { poolSize: 2 });
  assert.deepEqual(database.poolCounts(), { used: 0, idle: 0, waiting: 0 });
  const done = Promise.withResolvers<void>();
  const open = [1, 2].map(() => transaction(db, () => done.promise));
  const late = transaction(db, async () => {});
  await until("one waits", () => database.poolCounts().waiting === 1);
  assert.deepEqual(database.poolCounts(), { used: 2, idle: 0, waiting: 1 });
  done.resolve();
  await Promise.all([...open, late]);
  await until("nothing runs", () => database.poolCounts().used === 0);
  assert.deepEqual(database.poolCounts(), { used: 0, idle: 2, waiting: 0 });
});

test("R-NET-03 a call that ends leaves the line for a connection, sends nothing more, and rolls back", async (t) => {
  const { database, db, owner } = await setUp(t, { poolSize: 1 });
  const done = Promise.withResolvers<void>();
  const leaving = new AbortController();
  const reason = new Error("the call has ended");
  const busy = transaction(
    db,
    async (tx) => {
      await insert(tx, "rolled back");
      await done.promise;
      await insert(tx, "not sent");
    },
    { signal: leaving.signal },
  );
  await until("it runs", () => database.poolCounts().used === 1);
  const inLine = insert(during(db, leaving.signal), "not waited for").catch((error: Error) => error.cause);
  await until("it waits", () => database.poolCounts().waiting === 1);
  leaving.abort(reason);
  assert.equal(await inLine, reason);
  assert.equal(database.poolCounts().waiting, 0);
  done.resolve();
  await assert.rejects(busy, reason);
  assert.deepEqual(await entries(owner), []);
  await insert(db, "the next one");
  assert.deepEqual(await entries(owner), ["the next one"]);
});

test("a connection asks for nothing of its own: cut in that moment, the driver's question would end the process", async (t) => {
  const database = await testDatabase();
  const { hostname, port } = new URL(database.runtimeUrl);
  const relay = createServer((client) => {
    const server = connectSocket({ host: hostname, port: Number(port) });
    for (const socket of [client, server]) socket.on("error", () => {});
    client.on("data", (bytes) => (bytes.includes("pg_type") ? server.destroy() : server.write(bytes)));
    server.on("data", (bytes) => client.write(bytes));
    server.on("close", () => client.destroy());
    client.on("close", () => server.destroy());
  }).listen(0, "127.0.0.1");
  await once(relay, "listening");
  const url = new URL(database.runtimeUrl);
  url.port = String((relay.address() as AddressInfo).port);
  const { db, ...opened } = openDatabase({ url: url.href, poolSize: 1, applicationName: "test" });
  t.after(async () => {
    await opened[Symbol.asyncDispose]();
    relay.close();
    await database[Symbol.asyncDispose]();
  });
  assert.equal((await db.execute(statement`select 1 as one`))[0]?.one, 1);
});

const kept = (db: Db) => db.execute<{ text: string }>(statement`select statement as text from pg_prepared_statements`);

test("a statement with parameters is kept by its connection; a hundred of them, whatever comes", async (t) => {
  const { db } = await setUp(t, { poolSize: 1 });
  for (let count = 0; count < 3; count++) await insert(db, `row-${count}`);
  assert.deepEqual(
    (await kept(db)).map(({ text }) => text),
    ["insert into entry values ($1)"],
  );
  for (let count = 0; count < 150; count++) {
    const [row] = await db.execute(statement`select ${count}::integer as ${statement.identifier(`column_${count}`)}`);
    assert.deepEqual({ ...row }, { [`column_${count}`]: count });
  }
  assert.equal((await kept(db)).length, 100);
});

test("R-OBX-19 where statements are forgotten, transactions are run again and nothing is kept any more", async (t) => {
  const { db, owner } = await setUp(t, { poolSize: 1 });
  await insert(db, "first");
  let tries = 0;
  await transaction(db, async (tx) => {
    if (tries++ === 0) await tx.execute(statement`deallocate all`);
    await insert(tx, "second");
  });
  await insert(db, "third");
  assert.equal(tries, 2);
  assert.deepEqual(await entries(owner), ["first", "second", "third"]);
  assert.equal((await kept(db)).length, 0);
});

test("R-OBX-19 outside of a transaction, too", async (t) => {
  const { db, owner } = await setUp(t, { poolSize: 1 });
  await insert(db, "first");
  await db.execute(statement`deallocate all`);
  await insert(db, "second");
  await db.execute(statement`deallocate all`);
  await insert(db, "third");
  assert.deepEqual(await entries(owner), ["first", "second", "third"]);
  assert.equal((await kept(db)).length, 0);
});

test("a kept statement outlives a change of its table", async (t) => {
  const { db, owner } = await setUp(t, { poolSize: 1 });
  const read = (from: Db | Tx) => from.execute(statement`select * from entry where id = ${"first"}`);
  await insert(db, "first");
  await read(db);
  await owner`alter table entry add column note text not null default 'new'`;
  const [row] = await transaction(db, read);
  assert.deepEqual({ ...row }, { id: "first", note: "new" });
});

test("R-DB-07 a server without disk space for a write keeps its connection, and what it refused is counted", async (t) => {
  const { db, database } = await setUp(t, { poolSize: 1 });
  const backend = () => transaction(db, backendOf);
  const before = await backend();
  const diskFull = statement`do $$ begin raise exception 'no space left' using errcode = 'disk_full'; end $$`;
  const alone = await db.execute(diskFull).catch((error: unknown) => error);
  const within = await transaction(db, (tx) => tx.execute(diskFull)).catch((error: unknown) => error);
  for (const error of [alone, within]) assert.equal(reasonOf(toConnectError(error)), "DATABASE_UNAVAILABLE");
  assert.equal(await backend(), before);
  assert.equal(database.outOfResources(), 2);
});
