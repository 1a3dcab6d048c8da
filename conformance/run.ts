/**
 * Runs the suite against the server, with and without the fast path, and against the client; prints a line for each run and
 * notes it for `make coverage`, and fails if any case failed, if none ran, or if the fast path was not what it was said to be.
 * No case is excused.
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
  fastPathCalls: number;
}

const RUNS: Run[] = [
  { name: "server fast-path=on", mode: "server", program: ["server.ts", "--fast-path"], fastPath: true },
  { name: "server fast-path=off", mode: "server", program: ["server.ts"], fastPath: false },
  { name: "client", mode: "client", program: ["client.ts"] },
];

async function perform({ mode, program: [file, ...flags] }: Run): Promise<Outcome> {
  const config = join(import.meta.dirname, `${mode}.yaml`);
  const command = [process.execPath, join(import.meta.dirname, file!), ...flags];
  const child = spawn(SUITE, ["--mode", mode, "--conf", config, "--", ...command], {
    cwd: projectFolder,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: RUN_TIMEOUT_MS,
  });
  const ended = new Promise<void>((resolve, reject) => child.once("close", () => resolve()).once("error", reject));
  const outcome: Outcome = { cases: 0, failed: 0, fastPathCalls: 0 };
  await Promise.all([child.stdout, child.stderr].map((stream) => readLines(stream, outcome)));
  await ended;
  if (child.exitCode !== 0 && outcome.failed === 0) throw new Error(`the suite ended with ${child.exitCode}`);
  return outcome;
}

/** Takes the figures out of what the suite and the programs under test say, and shows the rest. */
async function readLines(stream: NodeJS.ReadableStream, outcome: Outcome): Promise<void> {
  for await (const line of createInterface(stream)) {
    const total = /^Total cases: (\d+)$/.exec(line);
    const failed = /^\d+ passed, (\d+) failed$/.exec(line) ?? /^Another (\d+) could not be run/.exec(line);
    if (line.startsWith(FAST_PATH_CALLS)) outcome.fastPathCalls += Number(line.slice(FAST_PATH_CALLS.length));
    else if (total) outcome.cases = Number(total[1]);
    else if (failed) outcome.failed += Number(failed[1]);
    else if (line !== "") process.stderr.write(`${line}\n`);
  }
}

const outcomes: TestOutcome[] = [];
for (const note of NOTES) process.stdout.write(`# note: ${note}\n`);
for (const run of RUNS) {
  const { cases, failed, fastPathCalls } = await perform(run);
  const isPathRight = run.fastPath === undefined || run.fastPath === fastPathCalls > 0;
  const calls = run.fastPath === undefined ? "" : ` calls-on-fast-path=${fastPathCalls}`;
  process.stdout.write(`conformance ${run.name} cases=${cases} failed=${failed}${calls}\n`);
  const isRight = cases > 0 && failed === 0 && isPathRight;
  if (!isRight) process.exitCode = 1;
  outcomes.push({ name: `S-API-20 ${run.name}, ${cases} cases`, file: "conformance/run.ts", passed: isRight });
}
mkdirSync(dirname(REPORT_FILE), { recursive: true });
writeFileSync(REPORT_FILE, outcomes.map((outcome) => `${JSON.stringify(outcome)}\n`).join(""));
