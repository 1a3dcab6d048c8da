/**
 * Runs the suite against the server, with and without the fast path, and against the client; prints a line for each run and
 * notes it for `make coverage`, and fails if any case failed, if none ran, or if the fast path was not what it was said to be.
 * No case is excused: the suite takes a connection that broke for an answer, so a few cases that failed are run again, alone and with
 * all that went over the wire shown; one that fails once more has failed.
 */
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { TestOutcome } from "../src/prove/passed-tests.ts";
import { FAST_PATH_CALLS } from "./wire.ts";

const projectFolder = join(import.meta.dirname, "..");
const SUITE = join(projectFolder, ".concierge/tools/connectconformance");
const REPORT_FILE = join(projectFolder, ".concierge/passed/conformance.jsonl");
/** Beyond the suite's own limits for each case; a whole run takes some minutes. */
const RUN_TIMEOUT_MS = 30 * 60_000;
/** More than these are no accident. */
const MOST_REPEATED = 3;
const REPETITIONS = 5;

/** What is not as in production, for whoever reads the figures. */
const NOTES = [
  "errors keep their reason (google.rpc.ErrorInfo) to themselves here: the suite compares details exactly (reasons.ts)",
  "the client reports the cause of DEPENDENCY_UNAVAILABLE, and has no deadline of its own (client.ts)",
  "a call that its server cancels when the deadline is over counts as late, not as canceled (client.ts)",
  "what is not supported, and why, is in server.yaml and client.yaml; no case is known to fail",
];

interface Run {
  name: string;
  mode: "server" | "client";
  program: string[];
  /** Whether calls take the fast path; not set where there is none. */
  fastPath?: boolean;
}

interface Outcome {
  cases: number;
  /** Failed, or could not be run. */
  failed: number;
  /** Names of those that failed. */
  names: string[];
  fastPathCalls: number;
}

const RUNS: Run[] = [
  { name: "server fast-path=on", mode: "server", program: ["server.ts", "--fast-path"], fastPath: true },
  { name: "server fast-path=off", mode: "server", program: ["server.ts"], fastPath: false },
  { name: "client", mode: "client", program: ["client.ts"] },
];

/** Runs all cases, or some. */
async function perform({ mode, program: [file, ...flags] }: Run, names: string[] = []): Promise<Outcome> {
  const config = join(import.meta.dirname, `${mode}.yaml`);
  const command = [process.execPath, join(import.meta.dirname, file!), ...flags];
  const only = names.length === 0 ? [] : ["--trace", ...names.flatMap((name) => ["--run", name])];
  const child = spawn(SUITE, ["--mode", mode, "--conf", config, ...only, "--", ...command], {
    cwd: projectFolder,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: RUN_TIMEOUT_MS,
  });
  const ended = new Promise<void>((resolve, reject) => child.once("close", () => resolve()).once("error", reject));
  const outcome: Outcome = { cases: 0, failed: 0, names: [], fastPathCalls: 0 };
  await Promise.all([child.stdout, child.stderr].map((stream) => readLines(stream, outcome)));
  await ended;
  if (child.exitCode !== 0 && outcome.failed === 0) throw new Error(`the suite ended with ${child.exitCode}`);
  return outcome;
}

/** Takes the figures out of what the suite and the programs under test say, and shows the rest. */
async function readLines(stream: NodeJS.ReadableStream, outcome: Outcome): Promise<void> {
  for await (const line of createInterface(stream)) {
    const total = /^Total cases: (\d+)$/.exec(line);
    const name = /^FAILED: (.+):$/.exec(line)?.[1];
    if (name !== undefined) outcome.names.push(name);
    const failed = /^\d+ passed, (\d+) failed$/.exec(line) ?? /^Another (\d+) could not be run/.exec(line);
    if (line.startsWith(FAST_PATH_CALLS)) outcome.fastPathCalls += Number(line.slice(FAST_PATH_CALLS.length));
    else if (total) outcome.cases = Number(total[1]);
    else if (failed) outcome.failed += Number(failed[1]);
    else if (line !== "") process.stderr.write(`${line}\n`);
  }
}

/** How many of the failed cases fail again. */
async function failAgain(run: Run, { failed, names }: Outcome): Promise<number> {
  if (failed === 0 || failed > MOST_REPEATED || names.length < failed) return failed;
  process.stdout.write(`# ${run.name}: run again: ${names.join(", ")}\n`);
  const again = new Set<string>();
  for (let count = 0; count < REPETITIONS; count++) {
    const outcome = await perform(run, names);
    if (outcome.cases !== names.length) return failed;
    for (const name of outcome.names) again.add(name);
  }
  return again.size;
}

const outcomes: TestOutcome[] = [];
for (const note of NOTES) process.stdout.write(`# note: ${note}\n`);
for (const run of RUNS) {
  const outcome = await perform(run);
  const { cases, fastPathCalls } = outcome;
  const failed = await failAgain(run, outcome);
  const isPathRight = run.fastPath === undefined || run.fastPath === fastPathCalls > 0;
  const calls = run.fastPath === undefined ? "" : ` calls-on-fast-path=${fastPathCalls}`;
  process.stdout.write(`conformance ${run.name} cases=${cases} failed=${failed}${calls}\n`);
  const isRight = cases > 0 && failed === 0 && isPathRight;
  if (!isRight) process.exitCode = 1;
  outcomes.push({ name: `S-API-20 ${run.name}, ${cases} cases`, file: "conformance/run.ts", passed: isRight });
}
mkdirSync(dirname(REPORT_FILE), { recursive: true });
writeFileSync(REPORT_FILE, outcomes.map((outcome) => `${JSON.stringify(outcome)}\n`).join(""));
