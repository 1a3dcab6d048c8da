/**
 * Every statement of every real migration, rights and down scripts included, as the last one of a runner that is killed: for
 * the database that is a connection which sends it, and then ends. A run takes some 20 ms this way instead of a process's
 * second; migrate-runners.test.ts kills processes.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, connect as openSocket, type Socket } from "node:net";
import test from "node:test";
import type { Sql } from "postgres";
import { services } from "../services.ts";
import { type TestDatabase, testDatabase } from "../testing/cluster.ts";
import { describeData, describeSchema } from "../testing/schema.ts";
import { until } from "../testing/until.ts";
import { connect } from "./connection.ts";
import { DatabaseUnavailable } from "./errors.ts";
import { migrate, migrateDown } from "./migrate.ts";
import { MIGRATIONS_FOLDER } from "./migrations.ts";

/** Messages that begin a statement: Query, and Parse or Bind where there are parameters. */
const STATEMENTS = new Set([..."QPB"].map((letter) => letter.charCodeAt(0)));

/** The first statement of a runner; before it, the driver asks on its own account, and connects anew where it is cut off. */
const FIRST = "pg_try_advisory_lock";

/** Stands before the database, and ends a connection once it has passed on so many statements. */
async function startKiller(target: { hostname: string; port: string }) {
  let left = Number.POSITIVE_INFINITY;
  const open = new Set<Socket>();
  const server = createServer((client) => {
    let isCounted = false;
    const upstream = openSocket({ host: target.hostname, port: Number(target.port), noDelay: true });
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("error", () => {}).once("close", () => open.delete(socket));
    }
    upstream.pipe(client);
    client.on("data", (chunk: Buffer) => {
      isCounted ||= chunk.includes(FIRST);
      if (isCounted && STATEMENTS.has(chunk[0]!)) left -= 1;
      upstream.write(chunk);
      if (left > 0) return;
      upstream.end();
      client.destroy();
    });
    client.once("close", () => upstream.end());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    killAfter(statements: number) {
      left = statements;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** What a commit of the runner changes: the history, and which transaction made each thing in the catalogue. */
async function readMarks(owner: Sql) {
  await until("the runner's connection is gone", async () => {
    const rows = await owner`
      select 1 from pg_stat_activity where datname = current_database() and application_name = 'concierge-migrate'`;
    return rows.length === 0;
  });
  const [marks] = await owner<{ history: string; catalogue: string }[]>`
    select coalesce((select string_agg(name, ' ' order by series, name) from concierge_migration), '') as history, md5(concat(
      (select string_agg(oid::text || xmin, ' ' order by oid) from pg_class where relnamespace = 'public'::regnamespace),
      (select string_agg(oid::text || xmin, ' ' order by oid) from pg_proc where pronamespace = 'public'::regnamespace),
      (select string_agg(oid::text || xmin, ' ' order by oid) from pg_constraint),
      (select string_agg(oid::text || xmin, ' ' order by oid) from pg_policy),
      (select string_agg(attrelid::text || attnum || xmin, ' ' order by attrelid, attnum) from pg_attribute
        where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)))) as catalogue`;
  return marks!;
}

/**
 * Runs it until it succeeds, killed one statement later each time. Nothing is committed without its line in the history; but
 * when all are there, which `newest` tells, rights are.
 */
async function killAtEach(
  { owner, killAfter, newest }: { owner: Sql; killAfter(statements: number): void; newest: string },
  run: () => Promise<unknown>,
): Promise<void> {
  let before = await readMarks(owner);
  for (let statements = 1; ; statements += 1) {
    killAfter(statements);
    const error = await run().catch((thrown: unknown) => thrown);
    if (!(error instanceof Error)) return;
    assert.ok(error instanceof DatabaseUnavailable, String(error));
    const after = await readMarks(owner);
    const isSame = after.history === before.history;
    const isHalf = isSame && after.catalogue !== before.catalogue && !after.history.includes(newest);
    assert.ok(!isHalf, `half of something is there, and the history is ${after.history}`);
    // the next migration begins with few statements again
    if (!isSame) statements = 0;
    before = after;
  }
}

function connectAs(owner: TestDatabase, closing: AsyncDisposableStack): Sql {
  const sql = connect(owner.ownerUrl, { applicationName: "test" });
  closing.defer(() => sql.end());
  return sql;
}

async function describe(sql: Sql): Promise<string[]> {
  return [...(await describeSchema(sql)), ...(await describeData(sql))];
}

const withDatabase = services.filter(({ hasDatabase }) => hasDatabase).map(({ name }) => name);

for (const [name, ...before] of [["platform"], ...withDatabase.map((service) => [service, "platform"])]) {
  test(`R-DEP-07 ${name}: killed at each statement, up and down, nothing is half there, and it is completed`, async () => {
    await using clean = await testDatabase(before);
    await using database = await testDatabase(before);
    await using killer = await startKiller(new URL(database.ownerUrl));
    await using closing = new AsyncDisposableStack();
    const owner = connectAs(database, closing);
    const [runtimeRole, jobRole] = [database.runtimeUrl, database.jobUrl].map((url) => new URL(url).username);
    const throughKiller = new URL(database.ownerUrl);
    throughKiller.port = String(killer.port);
    const roles = { runtimeRole: runtimeRole!, jobRole, folder: MIGRATIONS_FOLDER };
    const options = { ...roles, ownerUrl: throughKiller.href, series: [...before, name!] };

    const { pending } = await migrate({ ...options, ownerUrl: clean.ownerUrl });
    const expected = await describe(connectAs(clean, closing));
    const newest = pending.at(-1)!.name;
    const kills = { owner, killAfter: killer.killAfter, newest };
    await killAtEach(kills, () => migrate(options));
    assert.deepEqual(await describe(owner), expected);
    const isThere = async () => (await readMarks(owner)).history.includes(newest);
    await killAtEach(kills, async () => (await isThere()) && migrateDown({ ...options, series: name! }));
    assert.equal(await isThere(), false);
    await migrate({ ...options, ownerUrl: database.ownerUrl });
    assert.deepEqual(await describe(owner), expected);
  });
}
