/**
 * `make prove/resources`: every service that stores something runs with 256 open files, 128 MB of heap and all of them on one
 * core (R-RES-01), and is asked 50 times a second, while somebody holds more connections than there are files, and then sends more
 * logins than can be hashed. Calls may be refused as too many or unavailable; nothing else may fail, nothing may end or need
 * more than 256 MB, and afterwards everything must be as before. QUICK=1: half the time; CALLS=<n> a second.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { machineLine } from "../bench/figures.ts";
import { Code } from "../errors.ts";
import { makeFolder, openDatabaseServer } from "./database-server.ts";
import { Goals } from "./figures.ts";
import { openClients } from "./load-people.ts";
import { openLoadedSystem } from "./loaded-system.ts";
import type { LoadReport } from "./mixed-load.ts";
import { countOutcomes, failuresOf } from "./outages.ts";
import { nowMs } from "./revocation-clock.ts";
import { hasEnded, type ServiceProcesses } from "./service-processes.ts";
import { judgeStored } from "./stored-writes.ts";

const CALLS_PER_SECOND = Number(process.env.CALLS ?? 50);
const PHASE_MS = process.env.QUICK ? 5_000 : 10_000;
const SETTLED_MS = 5_000;
const OPEN_FILES = 256;
const HEAP_MEGABYTES = 128;
const MOST_MEGABYTES = 256;
const LOOK_MS = 200;
const LOGINS_AT_ONCE = 300;
/** A limit of address space would end V8, which reserves much more than it takes: the heap has one, and what is taken is measured. */
const WRAPPER = ["taskset", "-c", "0", "sh", "-c", `ulimit -n ${OPEN_FILES}; exec "$@"`, "limits"];
const MAY_BE_SAID = [Code[Code.Unavailable], Code[Code.ResourceExhausted]];

async function main(): Promise<number> {
  const goals = new Goals("resources");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const { adminUrl } = opened.use(await openDatabaseServer(await makeFolder(opened)));
  const variables = { NODE_OPTIONS: `--max-old-space-size=${HEAP_MEGABYTES}` };
  const options = { adminUrl, variables, wrapper: WRAPPER };
  const { processes, load } = await openLoadedSystem(CALLS_PER_SECOND, options, opened);
  const { running } = processes;
  const memory = watchMemory(processes, opened);
  await delay(SETTLED_MS);
  const refusedSockets = await holdSockets(processes);
  const { tooMany, others } = await floodWithLogins(processes);
  const endedMs = nowMs();
  await delay(SETTLED_MS + PHASE_MS);
  const report = await load.call<LoadReport>("end");
  goals.atLeast("R-RES-01 connections beyond what there are files for, refused", refusedSockets, 1);
  goals.atLeast("R-RES-01 logins of a flood refused as too many", tooMany, 1);
  goals.atMost("R-RES-01 logins of a flood that failed otherwise", others.length, 0, [...new Set(others)].join(", "));
  judgeCalls(goals, report, endedMs);
  goals.atMost("R-RES-01 processes that have ended", running.filter(({ process: child }) => hasEnded(child)).length, 0);
  goals.atMost(
    "R-RES-01 memory at most, MB",
    Math.max(...memory.values()),
    MOST_MEGABYTES,
    [...memory].map(([name, most]) => `${name} ${Math.round(most)}`).join(", "),
  );
  await judgeStored(goals, "R-RES-01", report, processes);
  return goals.missed === 0 ? 0 : 1;
}

/** Opens more connections to each service than it may have files, keeps them for a while, and says how many were ended. */
async function holdSockets({ running }: ServiceProcesses): Promise<number> {
  let ended = 0;
  const sockets: Socket[] = [];
  for (const { publicUrl } of running) {
    for (let made = 0; made < 2 * OPEN_FILES; made++) {
      const socket = connect({ port: Number(new URL(publicUrl).port), host: "127.0.0.1" });
      socket.on("error", () => {}).on("close", () => ended++);
      sockets.push(socket);
    }
  }
  await delay(PHASE_MS);
  const refused = ended;
  for (const socket of sockets) socket.destroy();
  return refused;
}

/** How many were told to come back later; and what the rest was told, those left out whom the password was refused to. */
async function floodWithLogins({ urls, keys }: ServiceProcesses): Promise<{ tooMany: number; others: string[] }> {
  const { login } = openClients({ urls, keys });
  const outcomes: string[] = [];
  const untilMs = nowMs() + PHASE_MS;
  const tryOn = async () => {
    while (nowMs() < untilMs) {
      const attempt = { email: `${crypto.randomUUID()}@example.com`, password: "a password of nobody" };
      await login.login(attempt).catch(({ code }: { code: Code }) => outcomes.push(Code[code]));
    }
  };
  await Promise.all(Array.from({ length: LOGINS_AT_ONCE }, tryOn));
  const tooMany = outcomes.filter((outcome) => MAY_BE_SAID.includes(outcome)).length;
  const expected = [...MAY_BE_SAID, Code[Code.Unauthenticated]];
  return { tooMany, others: outcomes.filter((outcome) => !expected.includes(outcome)) };
}

function judgeCalls(goals: Goals, { calls }: LoadReport, endedMs: number): void {
  const failed = failuresOf(calls);
  goals.info(`${calls.length} calls, ${failed.length} failed: ${countOutcomes(failed)}`);
  const others = failed.filter(({ outcome }) => !MAY_BE_SAID.includes(outcome.split(" ")[0]!));
  goals.atMost("R-RES-01 failures other than too many or unavailable", others.length, 0, countOutcomes(others));
  const late = failed.filter(({ sentMs }) => sentMs > endedMs + SETTLED_MS);
  goals.atMost("R-RES-01 calls failed when it was over", late.length, 0, countOutcomes(late));
}

/** The most that each has taken, in MB, until `opened` ends it. */
function watchMemory({ running }: ServiceProcesses, opened: AsyncDisposableStack): Map<string, number> {
  const most = new Map<string, number>();
  const timer = setInterval(() => {
    for (const { name, process: child } of running) {
      if (!hasEnded(child)) most.set(name, Math.max(most.get(name) ?? 0, takenBy(child.pid!)));
    }
  }, LOOK_MS);
  opened.defer(() => clearInterval(timer));
  return most;
}

/** Megabytes that a limit could not have back: without pages of the program's own file, which a container may drop and read again. */
function takenBy(pid: number): number {
  const [, kilobytes] = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))!;
  return Number(kilobytes) / 1024;
}

process.exitCode = await main();
