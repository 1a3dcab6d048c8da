/**
 * `make bench/rpc` (goal P1): a unary gRPC call through our whole chain at production settings, beside grpc-js with the same
 * chain, the stock Connect adapter with it, and bare servers. Every server is a process of its own; they take turns under the
 * same load, in rounds, so that whatever else the machine does meets all of them. It reports: a goal that is short does not fail
 * it. PROFILE=<folder> makes each server write a CPU profile there.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock as clock } from "../clock.ts";
import { type LoadOptions, type Saturation, saturate, sendAtRate, type Target } from "./load.ts";
import { checkAnswers, checkLog, checkLogFields, checkMetrics } from "./rpc-checks.ts";
import { type Contender, newFigures, report } from "./rpc-report.ts";
import { startServerProcess } from "./rpc-servers/process.ts";
import { SERVER_NAMES } from "./rpc-servers/task.ts";
import { makeWork, TOKEN_USES, type TokenUse, type Work } from "./rpc-work.ts";

const CONNECTIONS = 4;
const CALLS_PER_CONNECTION = 16;
/** At a steady rate: together fewer than the 250 that our server lets one address have. */
const MOST_CALLS_PER_CONNECTION = 60;
const WARM_UP_TURN_MS = 250;

interface Extent {
  rounds: number;
  /** Of each server: by their number, not by time, because that is what its code is compiled for. */
  warmUpCalls: number;
  saturationMs: number;
  halfLoadMs: number;
}

const FULL: Extent = { rounds: 5, warmUpCalls: 20_000, saturationMs: 1_300, halfLoadMs: 1_300 };
const QUICK: Extent = { rounds: 3, warmUpCalls: 8_000, saturationMs: 400, halfLoadMs: 300 };

await using opened = new AsyncDisposableStack();
const extent = process.argv.includes("--quick") ? QUICK : FULL;
const work = await makeWork(clock);
const contenders = await startAll(work, opened);
for (const contender of contenders) await warmUp(contender);
for (let round = 1; round <= extent.rounds; round++) {
  process.stderr.write(`round ${round} of ${extent.rounds}\n`);
  for (const use of TOKEN_USES) {
    // There and back again, so that no server always follows the same one.
    for (const contender of round % 2 === 1 ? contenders : contenders.toReversed()) await takeTurn(contender, use);
  }
}
for (const { server, calls } of contenders) await checkMetrics(server, calls);
for (const line of report(contenders, work)) process.stdout.write(`${line}\n`);

/** Starts every server, and sees to it that each does the whole work. */
async function startAll(work: Work, opened: AsyncDisposableStack): Promise<Contender[]> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-bench-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const { PROFILE: profiles } = process.env;
  const nodeOptions = profiles ? ["--cpu-prof", `--cpu-prof-dir=${profiles}`] : [];
  const contenders: Contender[] = [];
  for (const name of SERVER_NAMES) {
    const server = opened.use(await startServerProcess(name, work.task, { folder, nodeOptions }));
    const { goodCalls } = await checkAnswers(server, work);
    contenders.push({ server, figures: newFigures(), calls: goodCalls });
  }
  await checkLogFields(contenders.map(({ server }) => server));
  return contenders;
}

async function warmUp(contender: Contender): Promise<void> {
  for (let turn = 0; contender.calls < extent.warmUpCalls; turn++) {
    const use = TOKEN_USES[turn % TOKEN_USES.length]!;
    const { calls } = await saturate(targetOf(contender, use), loadFor(WARM_UP_TURN_MS));
    await settle(contender, calls);
  }
}

/** One turn: as much as the server can take, then half of that at a steady rate. */
async function takeTurn(contender: Contender, use: TokenUse): Promise<void> {
  const target = targetOf(contender, use);
  const figures = contender.figures[use];
  const { calls, callsPerSecond } = await measureCpu(contender, use);
  figures.callsPerSecond.push(callsPerSecond);
  await settle(contender, calls);
  const options = { ...loadFor(extent.halfLoadMs), callsPerConnection: MOST_CALLS_PER_CONNECTION };
  const steady = await sendAtRate(target, callsPerSecond / 2, options);
  figures.latenciesMs.push(steady.latenciesMs);
  figures.lagsMs.push(steady.lagsMs);
  await settle(contender, steady.calls);
}

async function measureCpu(contender: Contender, use: TokenUse): Promise<Saturation> {
  const { server } = contender;
  const figures = contender.figures[use];
  const before = await server.cpuMicroseconds();
  const ownBefore = process.cpuUsage();
  const saturation = await saturate(targetOf(contender, use), loadFor(extent.saturationMs));
  const { user, system } = process.cpuUsage(ownBefore);
  const seconds = saturation.calls / saturation.callsPerSecond;
  figures.generatorBusy.push((user + system) / 1e6 / seconds);
  figures.cpuMicrosecondsPerCall.push(((await server.cpuMicroseconds()) - before) / saturation.calls);
  return saturation;
}

/** Waits until the server has logged these calls. */
async function settle(contender: Contender, calls: number): Promise<void> {
  contender.calls += calls;
  await checkLog(contender.server, calls);
}

function targetOf({ server }: Contender, use: TokenUse): Target {
  return { port: server.port, requests: work.requests[use], answer: work.answer };
}

function loadFor(durationMs: number): LoadOptions {
  return { connections: CONNECTIONS, callsPerConnection: CALLS_PER_CONNECTION, durationMs, clock };
}
