/**
 * `make prove/postgres`: every service that stores something runs as a process of its own over one PostgreSQL, and is asked 500 times a
 * second, while the server is killed and started again (R-DB-01, G7); then its disk is full for a while (R-DB-07). In the end
 * the databases are held to the log of the calls. QUICK=1: two outages, at 150 a second; CALLS: another rate.
 */
import { setTimeout as delay } from "node:timers/promises";
import { machineLine } from "../bench/figures.ts";
import { type DatabaseServer, makeFolder, openDatabaseServer } from "./database-server.ts";
import { Goals } from "./figures.ts";
import { proveFullDisk } from "./full-disk.ts";
import { openLoadedSystem } from "./loaded-system.ts";
import { CALL_NAMES, type LoadReport } from "./mixed-load.ts";
import { callsOf, countOutcomes, failedWithoutOutage, failuresOf, type Outage, recoveryMs } from "./outages.ts";
import { nowMs } from "./revocation-clock.ts";
import { hasEnded, type ServiceProcesses } from "./service-processes.ts";
import { judgeStored } from "./stored-writes.ts";

const { CALLS, QUICK } = process.env;
const OUTAGES = QUICK ? 2 : 5;
const CALLS_PER_SECOND = Number(CALLS ?? (QUICK ? 150 : 500));
/** Until the processes have compiled what they do all the time. */
const BEFORE_MS = 15_000;
const DOWN_MS = 3_000;
const AFTER_MS = 8_000;
/** How soon after the database everything must be there again. */
const BOUND_MS = 2_000;

async function main(): Promise<number> {
  const goals = new Goals("postgres");
  goals.info(machineLine());
  await proveCrashes(goals);
  await proveFullDisk(goals);
  return goals.missed === 0 ? 0 : 1;
}

async function proveCrashes(goals: Goals): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const server = opened.use(await openDatabaseServer(await makeFolder(opened)));
  const { processes, load } = await openLoadedSystem(CALLS_PER_SECOND, server, opened);
  const startedMs = nowMs();
  await delay(BEFORE_MS);
  const outages: Outage[] = [];
  for (let round = 1; round <= OUTAGES; round++) {
    outages.push(await breakOff(server));
    process.stderr.write(`outage ${round} of ${OUTAGES}\n`);
    await delay(AFTER_MS);
  }
  const seconds = (nowMs() - startedMs) / 1_000;
  const report = await load.call<LoadReport>("end");
  judgeCalls(goals, report, outages, seconds);
  judgeProcesses(goals, processes);
  await judgeStored(goals, "R-DB-01", report, processes);
}

async function breakOff(server: DatabaseServer): Promise<Outage> {
  const downMs = nowMs();
  await server.crash();
  await delay(DOWN_MS);
  await server.start();
  return { downMs, upMs: nowMs() };
}

function judgeCalls(goals: Goals, { calls }: LoadReport, outages: Outage[], seconds: number): void {
  const away = outages.map(({ downMs, upMs }) => Math.round(upMs - downMs));
  goals.info(`the database was away for ${away.join(", ")} ms`);
  goals.atLeast("R-DB-01 calls a second", calls.length / seconds, CALLS_PER_SECOND * 0.95);
  const failed = failuresOf(calls);
  const longest = Math.max(...failed.map(({ sentMs, endedMs }) => endedMs - sentMs));
  goals.info(`${calls.length} calls, ${failed.length} failed, after ${Math.round(longest)} ms at most`);
  goals.info(countOutcomes(failed));
  const others = failed.filter(({ outcome }) => !outcome.startsWith("Unavailable "));
  goals.atMost("R-DB-01 failures other than UNAVAILABLE", others.length, 0, countOutcomes(others));
  for (const name of CALL_NAMES) {
    const mine = callsOf(calls, name);
    const recovered = outages.map((outage, index) => recoveryMs(mine, outage, outages[index + 1]?.downMs));
    goals.atMost(`R-DB-01 ${name} away for longer than the database, ms`, Math.max(...recovered), BOUND_MS);
  }
  const unasked = failedWithoutOutage(calls, outages, BOUND_MS);
  goals.atMost("R-DB-01 calls failed while the database was there", unasked.length, 0, countOutcomes(unasked));
}

function judgeProcesses(goals: Goals, { running }: ServiceProcesses): void {
  const ended = running.filter(({ process: child }) => hasEnded(child));
  goals.atMost("R-DB-01 processes that have ended", ended.length, 0, ended.map(({ name }) => name).join(", "));
}

process.exitCode = await main();
