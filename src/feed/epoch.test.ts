import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { systemClock } from "../clock.ts";
import { connect, withDatabase } from "../db/connection.ts";
import { openDatabase, transaction } from "../db/database.ts";
import { isUnavailable } from "../db/errors.ts";
import { migrate } from "../db/migrate.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { startPostgres } from "../dev/postgres.ts";
import { reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { until } from "../testing/until.ts";
import { emit, event } from "./emit.ts";
import { FeedLog, type FeedQuery } from "./log.ts";

const log = createLogger({ level: "fatal", mode: "development", clock: systemClock });
const DATABASE = "shop";
const NOT_DURABLE = { fsync: "off", synchronous_commit: "off" };

/** A process of the service, on whichever server this is. */
async function withFeed<T>(
  url: string,
  work: (feed: { read: (query?: Partial<FeedQuery>) => ReturnType<FeedLog["read"]>; write: () => Promise<void> }) => T,
) {
  await using opened = new AsyncDisposableStack();
  const { db } = opened.use(openDatabase({ url, poolSize: 2, applicationName: "test" }));
  const feed = opened.use(new FeedLog({ service: "shop", url, db, log }));
  feed.begin();
  const types = new Set([DurationSchema.typeName]);
  return await work({
    read: (query) =>
      feed.read({ from: "oldest", types, maxWaitMs: 0, limit: 100, signal: AbortSignal.timeout(20_000), ...query }),
    write: () => transaction(db, async (tx) => void (await emit(tx, [event(DurationSchema, "a", {})]))),
  });
}

test("R-OBX-16 a standby has no feed, and a promoted one has another epoch", async () => {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-standby-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  // A root process runs the server as another account, which must get in.
  await chmod(folder, 0o755);
  const before = await (async () => {
    await using primary = await startPostgres({ folder, settings: NOT_DURABLE });
    const url = withDatabase(primary.url, DATABASE);
    const admin = connect(primary.url, { applicationName: "test" });
    await admin.unsafe(`create database ${DATABASE}`);
    await admin.end();
    await migrate({ ownerUrl: url, runtimeRole: "postgres", series: ["platform"], folder: MIGRATIONS_FOLDER });
    return await withFeed(url, async ({ read, write }) => {
      await write();
      const { next, events } = await read();
      assert.equal(events.length, 1);
      return { next, dataFolder: primary.dataFolder };
    });
  })();
  await writeFile(join(before.dataFolder, "standby.signal"), "");
  await using standby = await startPostgres({ folder, settings: NOT_DURABLE });
  const url = withDatabase(standby.url, DATABASE);
  await withFeed(url, ({ read }) => assert.rejects(read(), isUnavailable));
  const admin = connect(url, { applicationName: "test" });
  opened.defer(() => admin.end());
  await assert.rejects(async () => admin`select concierge_on_primary()`, isUnavailable);
  await admin`select pg_promote()`;
  await until("it takes writes", async () => (await admin`select pg_is_in_recovery() as it`)[0]!.it === false);
  await withFeed(url, async ({ read, write }) => {
    await write();
    await assert.rejects(read({ from: before.next }), (error) => reasonOf(error) === "CURSOR_LOST");
    const { events, next } = await read();
    assert.deepEqual(
      events.map(({ position }) => position),
      [1n, 2n],
    );
    assert.notEqual(next.epoch, before.next.epoch);
  });
});
