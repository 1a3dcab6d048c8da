/**
 * Growth (P9): one statement, as a service sends it, in two databases of which the second has far more rows. Both are asked in
 * turn, by a server with hardly a page in its own memory, so nearly every page is read from the system.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Sql } from "postgres";
import { connect } from "../db/connection.ts";
import { startPostgres } from "../dev/postgres.ts";
import type { Goals } from "../prove/figures.ts";
import { CLUSTER_VARIABLE } from "../testing/cluster.ts";
import { machineMs } from "./feed-database.ts";
import { median, quantile } from "./figures.ts";

const WARM_UP = 200;
const SAMPLES = 3_000;
const EXPLAINED = 200;
const MAX_RATIO = 1.5;
const SETTINGS = { fsync: "off", synchronous_commit: "off", full_page_writes: "off", autovacuum: "off" };

/** One size of the data. */
export interface Size {
  /** Such as "1000 people". */
  name: string;
  sql: Sql;
  /** Of each next question. */
  parameters(): unknown[];
}

interface Result {
  tookMs: number[];
  pages: number[];
  /** Searches in an index, each from its root. */
  searches: number;
}

/**
 * Fills databases with a server that has the memory for it, and goes on with one on the same port that has not; they go with
 * their folder when `opened` does. Resolves to what `fill` did.
 */
export async function openColdServer<Filled>(
  fill: () => Promise<Filled>,
  opened: AsyncDisposableStack,
): Promise<Filled> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-bench-growth-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  // A root process runs the server as another account, which must get in.
  await chmod(folder, 0o755);
  const { filled, port } = await fillWith(folder, fill);
  opened.use(await startPostgres({ folder, port, settings: { ...SETTINGS, shared_buffers: "256kB" } }));
  return filled;
}

async function fillWith<Filled>(folder: string, fill: () => Promise<Filled>) {
  await using server = await startPostgres({ folder, settings: { ...SETTINGS, max_wal_size: "2GB" } });
  process.env[CLUSTER_VARIABLE] = server.url;
  return { filled: await fill(), port: Number(new URL(server.url).port) };
}

/**
 * Runs statements that have one parameter, how much there is to be; then analyzes. It does not vacuum: who then locks the first
 * row of a page would also touch the visibility map, which nearly everybody is among many people, and nobody among few.
 */
export async function fillTables(ownerUrl: string, statements: string[], count: number): Promise<void> {
  const sql = connect(ownerUrl, { applicationName: "bench" });
  for (const statement of statements) await sql.unsafe(statement, [count]);
  await sql.unsafe("analyze");
  await sql.end();
}

/** Asks both in turn; time and pages may not grow with the data, but for one page in each search of an index. */
export async function compareGrowth(goals: Goals, what: string, query: string, sizes: [Size, Size]): Promise<void> {
  const results = sizes.map((): Result => ({ tookMs: [], pages: [], searches: 0 }));
  for (let turn = 0; turn < WARM_UP + SAMPLES; turn++) {
    for (const [index, { name, sql, parameters }] of sizes.entries()) {
      const values = parameters() as never[];
      const startMs = machineMs();
      const rows = await sql.unsafe(query, values, { prepare: true });
      if (turn >= WARM_UP) results[index]!.tookMs.push(machineMs() - startMs);
      if (rows.length === 0) throw new Error(`${what}: nothing was found among ${name}`);
    }
  }
  for (const [index, { sql, parameters }] of sizes.entries()) {
    const result = results[index]!;
    for (let turn = 0; turn < EXPLAINED; turn++) {
      const plan = await explain(sql, query, parameters() as never[]);
      result.pages.push(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]);
      result.searches = searchesIn(plan);
    }
  }
  tell(goals, what, sizes, results as [Result, Result]);
}

function tell(goals: Goals, what: string, [few, many]: [Size, Size], [small, large]: [Result, Result]): void {
  const names = `${many.name}/${few.name}`;
  const [before, after] = [quantile(small.tookMs, 0.99), quantile(large.tookMs, 0.99)];
  const medians = `${median(small.tookMs).toFixed(3)}, ${median(large.tookMs).toFixed(3)}`;
  const times = `p99 ${before.toFixed(3)}, ${after.toFixed(3)} ms; p50 ${medians} ms`;
  goals.ratioAtMost(`P9 ${what}, p99 with cold caches, ${names}`, after / before, MAX_RATIO, times);
  const pages = [median(small.pages), median(large.pages)] as const;
  const raw = `${pages[0]}, ${pages[1]} pages; ${large.searches} searches of indexes`;
  goals.atMost(`P9 ${what}, more pages, ${names}`, pages[1] - pages[0], large.searches, raw);
}

interface Plan {
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  "Actual Loops": number;
  "Index Name"?: string;
  Plans?: Plan[];
}

async function explain(sql: Sql, query: string, parameters: never[]): Promise<Plan> {
  const explained = `explain (analyze, buffers, format json) ${query}`;
  const [row] = await sql.unsafe<{ "QUERY PLAN": [{ Plan: Plan }] }[]>(explained, parameters);
  return row!["QUERY PLAN"][0].Plan;
}

function searchesIn({ "Index Name": name, "Actual Loops": loops, Plans = [] }: Plan): number {
  return Plans.reduce((sum, plan) => sum + searchesIn(plan), name === undefined ? 0 : loops);
}
