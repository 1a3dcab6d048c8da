/** Behind PgBouncer in transaction mode: refused with a clear message, or, where it is set up for us, good by polling. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { systemClock } from "../../src/clock.ts";
import { connect } from "../../src/db/connection.ts";
import { connectionLimits, openDatabase, transaction } from "../../src/db/database.ts";
import { checkSchema, migrate } from "../../src/db/migrate.ts";
import { MIGRATIONS_FOLDER } from "../../src/db/migrations.ts";
import { ExitCode, StartupError } from "../../src/errors.ts";
import { emit, event } from "../../src/feed/emit.ts";
import { FeedLog } from "../../src/feed/log.ts";
import { createLogger } from "../../src/log.ts";
import { type TestDatabase, testCluster, testDatabase } from "../../src/testing/cluster.ts";
import { startPgBouncer } from "./pgbouncer.ts";

const LIMITS = Object.keys(connectionLimits);
const log = createLogger({ level: "error", mode: "development", clock: systemClock });

const check = (runtimeUrl: string) => checkSchema({ runtimeUrl, series: ["platform"], folder: MIGRATIONS_FOLDER });

function refusal(pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, ExitCode.config);
    assert.match(error.message, pattern);
    return true;
  };
}

test("R-OBX-19 as it comes, it refuses our settings, and the start says so", async () => {
  await using database = await testDatabase();
  await using pooler = await startPgBouncer(database.runtimeUrl);
  await assert.rejects(check(pooler.url), refusal(/refuses our settings.*08P01.*statement_timeout/));
});

test("R-OBX-19 where it drops our settings without a word, the start names them", async () => {
  await using database = await testDatabase();
  await using pooler = await startPgBouncer(database.runtimeUrl, LIMITS);
  await assert.rejects(
    check(pooler.url),
    refusal(/drops our settings \(client_connection_check_interval, .*statement/),
  );
});

test("where it drops our settings, nothing is migrated: a lock would stay behind in a connection of the pooler", async () => {
  await using database = await testDatabase();
  await using pooler = await startPgBouncer(database.ownerUrl, LIMITS);
  const role = decodeURIComponent(new URL(database.runtimeUrl).username);
  const options = { ownerUrl: pooler.url, runtimeRole: role, series: ["platform"], folder: MIGRATIONS_FOLDER };
  await assert.rejects(migrate(options), refusal(/drops our settings: migrations need the database itself/));
});

test("R-OBX-19 with the settings on the role, the feed works by polling", async () => {
  await using database = await testDatabase();
  await using _role = await limitRole(database);
  await using pooler = await startPgBouncer(database.runtimeUrl, LIMITS);
  await check(pooler.url);
  await using opened = new AsyncDisposableStack();
  const open = () => {
    const { db } = opened.use(openDatabase({ url: pooler.url, poolSize: 4, applicationName: "test" }));
    const feed = opened.use(new FeedLog({ service: "auth", url: pooler.url, db, log }));
    feed.begin();
    return { db, feed };
  };
  const writer = open();
  const reader = open();
  const query = { types: new Set([DurationSchema.typeName]), limit: 100, signal: AbortSignal.timeout(20_000) };
  let { next: from } = await reader.feed.read({ ...query, from: "newest", maxWaitMs: 0 });
  for (let round = 1; round <= 5; round++) {
    const waiting = reader.feed.read({ ...query, from, maxWaitMs: 10_000 });
    await transaction(writer.db, (tx) => emit(tx, [event(DurationSchema, "a", { seconds: BigInt(round) })]));
    const { events, next, complete } = await waiting;
    assert.deepEqual([events.map(({ version }) => version), complete], [[BigInt(round)], true]);
    from = next;
  }
});

/** What an operator does who wants a pooler; undone, because the role serves other tests, too. */
async function limitRole({ runtimeUrl, name }: TestDatabase): Promise<AsyncDisposable> {
  const { adminUrl } = await testCluster();
  const admin = connect(adminUrl, { applicationName: "test" });
  const role = decodeURIComponent(new URL(runtimeUrl).username);
  for (const [setting, ms] of Object.entries(connectionLimits)) {
    await admin.unsafe(`alter role "${role}" in database "${name}" set ${setting} = ${ms}`);
  }
  return { [Symbol.asyncDispose]: () => admin.end() };
}
