/**
 * `make prove/soak`: the server at production settings under steady calls, good ones and damaged ones, for a quarter of an
 * hour (FULL=1: four hours; QUICK=1: two minutes; SECONDS sets the length). Once it is warm, its memory and its open files stay what
 * they are, every good call is answered right, and Node has nothing to warn of.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "../bench/figures.ts";
import { systemClock } from "../clock.ts";
import { fuzz } from "../testing/fuzz.ts";
import { recordPublicCorpus } from "../testing/fuzz-servers.ts";
import { Goals, slopeOf } from "./figures.ts";
import type { InnocentRun } from "./innocent-client.ts";
import { startWorker, type Usage, usageOf } from "./workers.ts";

const { FULL, QUICK, SECONDS, SEED } = process.env;
const DURATION_MS = Number(SECONDS ?? (FULL ? 4 * 3_600 : QUICK ? 120 : 15 * 60)) * 1_000;
const WINDOW_MS = 10_000;
const CALLS_PER_SECOND = 200;
/** Damaged requests in each window. */
const CASES = 500;
/** Share of the run after which nothing grows any more. */
const WARM_UP = 0.4;
const HOUR_MS = 3_600_000;
/** All damaged requests come from one address, beside the good ones: neither bound is what is proven here. */
const VARIABLES = { CONCIERGE_REQUESTS_PER_SECOND: "0" };
const WARNING = /\(node:\d+\).*Warning/g;

interface Sample extends Usage {
  atMs: number;
}

async function main(): Promise<number> {
  const goals = new Goals("soak");
  const seed = Number(SEED ?? Math.floor(Math.random() * 2 ** 31));
  goals.info(`SEED=${seed}, ${DURATION_MS / 1000} s`);
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-soak-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const errorFile = join(folder, "stderr");
  const server = opened.use(startWorker("edge-server", { errorFile, flags: ["--expose-gc"] }));
  const innocent = opened.use(startWorker("innocent-client"));
  const target = await server.call<{ port: number; accessToken: string }>("start", { variables: VARIABLES });
  await innocent.call("open", target);
  const corpus = recordPublicCorpus(["authorization", `Bearer ${target.accessToken}`]);
  const urls = [`http://127.0.0.1:${target.port}`];
  const startedAt = systemClock.monotonic();
  const samples: Sample[] = [];
  const successes: number[] = [];
  let problems = 0;
  opened.defer(() => {
    const said = readFileSync(errorFile, "utf8");
    if (said !== "") goals.info(`the server said: ${said.slice(0, 5_000)}`);
  });
  for (let atMs = 0; atMs < DURATION_MS; atMs = systemClock.monotonic() - startedAt) {
    const [good, bad] = await Promise.all([
      innocent.call<InnocentRun>("run", { callsPerSecond: CALLS_PER_SECOND, durationMs: WINDOW_MS }),
      fuzz({ seed, corpus, urls, cases: CASES, from: samples.length * CASES }),
    ]);
    successes.push(good.success);
    problems += bad.problems.length;
    for (const problem of bad.problems) goals.info(problem.slice(0, 2_000));
    await server.call("collectGarbage");
    samples.push({ atMs, ...usageOf(server.pid) });
  }
  // Two minutes are all warming up.
  if (!QUICK) judge(goals, samples.slice(Math.floor(samples.length * WARM_UP)));
  goals.atLeast("R-NET-10 good calls answered right", Math.min(...successes), 1);
  goals.atMost("R-NET-10 damaged requests answered as faults", problems, 0);
  goals.atMost("R-NET-10 warnings", readFileSync(errorFile, "utf8").match(WARNING)?.length ?? 0, 0);
  return goals.missed === 0 ? 0 : 1;
}

function judge(goals: Goals, samples: Sample[]): void {
  const { slope, error } = slopeOf(samples.map(({ atMs, rssMegabytes }) => [atMs / HOUR_MS, rssMegabytes]));
  const rss = samples.map(({ rssMegabytes }) => rssMegabytes.toFixed(0)).join(" ");
  const raw = `slope ${slope.toFixed(2)} +-${(2 * error).toFixed(2)}; MB: ${rss}`;
  // As much as can be said for certain: a short run cannot tell a megabyte an hour from noise.
  goals.atMost("R-NET-10 RSS slope MB/h, at least", Math.max(0, slope - 2 * error), 1, raw);
  const files = samples.map(({ openFiles }) => openFiles);
  const half = Math.ceil(files.length / 2);
  const growth = median(files.slice(-half)) - median(files.slice(0, half));
  goals.atMost("R-NET-10 open files more", growth, 0, files.join(" "));
}

process.exitCode = await main();
