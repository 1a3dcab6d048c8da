/**
 * `make prove/fuzz`: damaged requests for a minute (FULL=1: ten, or ten million cases): no crash, no unhandled rejection, no
 * answer that says the fault is the server's, the same answer with the fast path and without, and no memory lost: what objects
 * and buffers hold after a collection is judged always, the process's pages after ten minutes, when they are level. SEED
 * repeats a run, SECONDS sets its length; `FUZZ_SEED=... FUZZ_CASE=...` of src/rpc/fuzz.test.ts repeats one case.
 */
import { checkCorpus, type FuzzReport, fuzz } from "../testing/fuzz.ts";
import { recordPublicCorpus } from "../testing/fuzz-servers.ts";
import type { HeaderLine } from "../testing/http.ts";
import { Goals, slopeOf } from "./figures.ts";
import { BYTES_PER_MEGABYTE, startWorker, usageOf, type Worker } from "./workers.ts";

const { FULL, SEED, SECONDS } = process.env;
const DURATION_MS = Number(SECONDS ?? (FULL ? 600 : 60)) * 1_000;
const CASES = FULL ? 10_000_000 : 1_000_000;
/** Cases between two looks at the server. */
const BATCH = 2_000;
/** Share of the run after which memory is to be level. */
const WARM_UP = 0.5;
const MAX_FAULTS = 20;
/** Below this, a slope is what the allocator does with its pages. */
const SLOPE_MB_PER_100_000 = 1;
/** A request that is left behind holds a kilobyte and more; code that the engine goes on compiling makes 50 to 150 of these in a minute. */
const HELD_BYTES_PER_CASE = 300;

async function main(): Promise<number> {
  const seed = Number(SEED ?? Math.floor(Math.random() * 2 ** 31));
  const goals = new Goals("fuzz");
  goals.info(`SEED=${seed}`);
  await using server = startWorker("fuzz-server", { flags: ["--expose-gc"] });
  const { urls, authorization } = await server.call<{ urls: string[]; authorization: HeaderLine }>("start");
  const corpus = recordPublicCorpus(authorization);
  for (const problem of await checkCorpus({ corpus, urls })) goals.info(`not right to begin with: ${problem}`);
  const fastBefore = await server.call<number>("fastCalls");
  const run = await runBatches(server, goals, (from) => fuzz({ seed, corpus, urls, cases: BATCH, from }));
  goals.info(`${run.requests} requests in ${run.cases} cases, ${run.compared} compared, ${run.late} ran out of time`);
  for (const [outcome, count] of run.outcomes) goals.info(`${count} x ${outcome}`);
  const fastCalls = (await server.call<number>("fastCalls")) - fastBefore;
  goals.atLeast("S-API-21 cases compared", run.compared, 1);
  goals.atLeast("S-API-21 calls by the fast path", fastCalls, 1);
  goals.atMost("S-API-21 answers that are the server's fault, or differ", run.problems, 0);
  goals.atMost("S-API-21 faults, unhandled rejections and crashes", run.faults, 0);
  const { held, resident } = run;
  const heldBytes = growth(held) * (BYTES_PER_MEGABYTE / 100_000);
  goals.atMost(
    "S-API-21 bytes held per case",
    heldBytes,
    HELD_BYTES_PER_CASE,
    `${held.at(-1)?.[1].toFixed(1)} MB at the end`,
  );
  const slope = growth(resident);
  goals.info(`RSS slope ${slope.toFixed(1)} MB per 100,000 cases, ${resident.at(-1)?.[1].toFixed(0)} MB at the end`);
  if (FULL) goals.atMost("S-API-21 RSS slope MB per 100,000 cases", slope, SLOPE_MB_PER_100_000);
  return goals.missed === 0 ? 0 : 1;
}

/** The slope after the warm-up, as far as it is certain. */
function growth(points: readonly MemoryPoint[]): number {
  const { slope, error } = slopeOf(points.slice(Math.floor(points.length * WARM_UP)));
  return Math.max(0, slope - 2 * error);
}

type MemoryPoint = readonly [hundredThousandsOfCases: number, megabytes: number];

interface Sum extends Omit<FuzzReport, "problems"> {
  problems: number;
  faults: number;
  /** What objects and buffers hold after a collection, and all that the process has. */
  held: MemoryPoint[];
  resident: MemoryPoint[];
}

/** Goes on until the time is over, the cases are enough, or too much is wrong. */
async function runBatches(server: Worker, goals: Goals, batch: (from: number) => Promise<FuzzReport>): Promise<Sum> {
  const sum: Sum = {
    cases: 0,
    requests: 0,
    compared: 0,
    late: 0,
    outcomes: new Map(),
    problems: 0,
    faults: 0,
    held: [],
    resident: [],
  };
  const end = AbortSignal.timeout(DURATION_MS);
  while (!end.aborted && sum.cases < CASES && sum.problems + sum.faults < MAX_FAULTS) {
    const report = await batch(sum.cases);
    sum.cases += report.cases;
    sum.requests += report.requests;
    sum.compared += report.compared;
    sum.late += report.late;
    for (const [name, count] of report.outcomes) sum.outcomes.set(name, (sum.outcomes.get(name) ?? 0) + count);
    sum.problems += report.problems.length;
    const faults = await server.call<string[]>("takeFaults");
    sum.faults += faults.length;
    for (const problem of [...report.problems, ...faults]) goals.info(problem.slice(0, 2_000));
    sum.held.push([sum.cases / 100_000, await server.call<number>("collectGarbage")]);
    sum.resident.push([sum.cases / 100_000, usageOf(server.pid).rssMegabytes]);
  }
  return sum;
}

process.exitCode = await main();
