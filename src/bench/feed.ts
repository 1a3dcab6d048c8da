/**
 * `make bench/feed`: what the change feed costs those who write, and how long an event takes to those who read: at an everyday
 * load, with a thousand waiting readers, with a million events to catch up with (R-OBX-09), and after a million under a held
 * snapshot (R-OBX-15). Over a durable PostgreSQL of its own; references are taken in the same run. QUICK=1 takes a tenth of the
 * millions, and less of the rest. ONLY=<name> takes one part. Ends with 1 if a goal is missed.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPostgres } from "../dev/postgres.ts";
import { Goals } from "../prove/figures.ts";
import { measureBacklog } from "./feed-backlog.ts";
import { createDatabase, type FeedDatabase } from "./feed-database.ts";
import { measureReaders, measureThroughput, measureWaiting } from "./feed-live.ts";
import { measureSnapshot } from "./feed-snapshot.ts";
import { machineLine } from "./figures.ts";

interface Extent {
  isQuick: boolean;
  /** Of the backlog, and under the snapshot. */
  events: number;
}

const PARTS: Record<string, (database: FeedDatabase, goals: Goals, extent: Extent) => Promise<void>> = {
  throughput: measureThroughput,
  readers: measureReaders,
  waiting: measureWaiting,
  backlog: measureBacklog,
  snapshot: measureSnapshot,
};
/** A server with the default durability, and with room for what a production server would keep in memory. */
const SERVER_SETTINGS = { shared_buffers: "256MB", max_wal_size: "2GB" };

async function main(): Promise<number> {
  const { QUICK, ONLY } = process.env;
  const isQuick = Boolean(QUICK);
  const extent = { isQuick, events: isQuick ? 100_000 : 1_000_000 };
  const goals = new Goals("feed");
  goals.info(machineLine());
  const folder = await mkdtemp(join(tmpdir(), "concierge-bench-feed-"));
  try {
    // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
    await chmod(folder, 0o755);
    await using server = await startPostgres({ folder, settings: SERVER_SETTINGS });
    for (const [name, measure] of Object.entries(PARTS)) {
      if (ONLY && ONLY !== name) continue;
      process.stderr.write(`${name} ...\n`);
      await measure(await createDatabase(server.url, name), goals, extent);
    }
    goals.info(`at the end: ${machineLine()}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return goals.missed === 0 ? 0 : 1;
}

process.exitCode = await main();
