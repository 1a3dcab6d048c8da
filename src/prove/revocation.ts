/**
 * `make prove/revocation`: real calls of Logout, and four processes that verify access tokens by themselves, each as a service
 * does. First all is well; then a snapshot of auth's database is held over many dead rows, and pg_dump runs where there is one
 * that fits; then each process stands still in turn, and the host of auth is behind a black hole. Two minutes and a half;
 * FULL=1 goes through the faults five times, with a million dead rows (10 minutes); QUICK=1 stops one verifier only, and fewer
 * people log out. ONLY=<part of a name> takes some of the parts.
 */
import { setTimeout as delay } from "node:timers/promises";
import { machineLine } from "../bench/figures.ts";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import { type End, endAt, makeSessions } from "./auth-sessions.ts";
import { Goals } from "./figures.ts";
import { nowMs } from "./revocation-clock.ts";
import { proveKeyRemoval, proveKills, proveOtherEnds } from "./revocation-ends.ts";
import { holdSnapshot, keepDumping, publishMany, stopFor, stopPostgresFor } from "./revocation-faults.ts";
import { judgeFault, judgeHealth } from "./revocation-judge.ts";
import {
  follow,
  openSetting,
  questionsOf,
  reportsOf,
  type Setting,
  settle,
  verificationsOf,
  waitedByAll,
  watch,
} from "./revocation-setting.ts";

const { FULL, QUICK, ONLY } = process.env;
const ROUNDS = FULL ? 5 : 1;
const DEAD_ROWS = FULL ? 1_000_000 : 100_000;
const LOGOUTS = QUICK ? 500 : 2_000;
const OTHER_ENDS = QUICK ? 100 : 500;
const KILLED_LOGOUTS = QUICK ? 2_000 : 10_000;
/** Before anything is judged, as a process does that has run for a minute. */
const WARM_UP_LOGOUTS = 500;
const LOGOUT_EVERY_MS = 10;
/** A session is asked about for so long before its logout. */
const WATCHED_BEFORE_MS = 100;
const LIVE_SESSIONS = 10;
/** Logouts up to the beginning of a fault, and during it. */
const BEFORE = { count: 30, everyMs: 20 };
/** Late enough that what was asked before it has been answered without them. */
const DURING = { count: 20, everyMs: 100, afterMs: 1_200 };
/** A verifier that stands still for less than what is fresh, and for more. */
const VERIFIER_STOPS_MS = QUICK ? [6_000] : [4_000, 5_000, 6_000, 7_000];
const FAULT_MS = 7_000;

interface Fault {
  name: string;
  /** Which auth each verifier follows. */
  authUrls: string[];
  /** Where people log out before it and, if they can, during it. */
  before: End;
  during?: End;
  begin(): Promise<{ over: Promise<unknown> }>;
  /** Verifiers that hear of nothing, and the one that stands still. */
  cutOff: number[];
  stopped?: number;
}

async function main(): Promise<number> {
  const goals = new Goals("P7");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const setting = await openSetting(goals, opened);
  await warmUp(setting);
  if (isWanted("healthy")) await proveHealthy(setting, "healthy");
  if (isWanted("snapshot")) await proveWithSnapshot(setting);
  if (isWanted("other ends")) await proveOtherEnds(setting, OTHER_ENDS);
  if (isWanted("kills")) await proveKills(setting, opened, KILLED_LOGOUTS);
  for (let round = 0; round < ROUNDS; round++) {
    for (const fault of await faultsOf(setting, opened)) if (isWanted(fault.name)) await proveFault(setting, fault);
  }
  if (isWanted("key removal")) await proveKeyRemoval(setting);
  // The count that has to be 0 above is one that grows when auth is asked.
  if (!ONLY) goals.atLeast("R-CON-02 after faults: verification RPCs", await questionsOf(setting), 1);
  return goals.missed === 0 ? 0 : 1;
}

function isWanted(name: string): boolean {
  return !ONLY || name.includes(ONLY);
}

/** The same that is judged afterwards, while code is compiled. */
async function warmUp(setting: Setting): Promise<void> {
  const { auths, verifiers } = setting;
  await follow(setting, new Array(verifiers.length).fill(auths[0]!.internalUrl));
  const sessions = await makeSessions(setting.sql, setting.keys, WARM_UP_LOGOUTS);
  const startMs = nowMs();
  const dueMs = sessions.map((_, index) => startMs + index * LOGOUT_EVERY_MS);
  await watch(setting, sessions, (index) => dueMs[index]! - WATCHED_BEFORE_MS);
  await endAt(sessions, dueMs, auths[0]!.logout);
}

/** Many people log out, one after the other. */
async function proveHealthy(setting: Setting, name: string): Promise<void> {
  const { goals, auths, verifiers } = setting;
  await follow(setting, new Array(verifiers.length).fill(auths[0]!.internalUrl));
  const sessions = await makeSessions(setting.sql, setting.keys, LOGOUTS + LIVE_SESSIONS);
  const leaving = sessions.slice(0, LOGOUTS);
  const startMs = nowMs() + 5 * WATCHED_BEFORE_MS;
  const dueMs = leaving.map((_, index) => startMs + index * LOGOUT_EVERY_MS);
  const beganMs = nowMs();
  const before = {
    waited: waitedByAll(setting),
    questions: await questionsOf(setting),
    verifications: verificationsOf(await reportsOf(setting)),
  };
  const fromMs = (index: number) => (dueMs[index] ?? startMs) - WATCHED_BEFORE_MS;
  await watch(setting, sessions, fromMs);
  const revocations = [...(await endAt(leaving, dueMs, auths[0]!.logout)), ...new Array(LIVE_SESSIONS).fill(undefined)];
  const trial = await settle(setting, { name, revocations, reports: [] });
  const verifications = verificationsOf(trial.reports) - before.verifications;
  const waited = (waitedByAll(setting) - before.waited) / (nowMs() - beganMs);
  goals.info(
    `R-CON-02 ${name}: processes of the proof that were ready to run but had no processor: ${waited.toFixed(2)}`,
  );
  judgeHealth(goals, trial, verifications, (await questionsOf(setting)) - before.questions);
}

async function proveWithSnapshot(setting: Setting): Promise<void> {
  const { goals, databaseUrl, sql } = setting;
  await using _snapshot = await holdSnapshot(databaseUrl);
  await publishMany(sql, DEAD_ROWS);
  await using dumping = keepDumping(databaseUrl);
  await proveHealthy(setting, `a snapshot held over ${DEAD_ROWS} dead rows`);
  goals.info(
    dumping.count > 0 ? `pg_dump ran ${dumping.count} times meanwhile` : "no pg_dump that fits the server ran",
  );
}

async function faultsOf(setting: Setting, opened: AsyncDisposableStack): Promise<Fault[]> {
  const { sql, auths, verifiers } = setting;
  const [first, second] = [auths[0]!, auths[1]!];
  const everyone = verifiers.map((_, index) => index);
  const all = (url: string) => verifiers.map(() => url);
  const { hostname: host, port } = new URL(first.internalUrl);
  const proxy = opened.use(await startFaultProxy({ host, port: Number(port) }));
  const normal = { authUrls: all(first.internalUrl), before: first.logout, during: first.logout };
  const blackHole = async () => {
    proxy.hang();
    return { over: delay(FAULT_MS).then(() => proxy.heal()) };
  };
  return [
    ...verifiers.slice(0, VERIFIER_STOPS_MS.length).map(({ worker, key }, index) => ({
      ...normal,
      name: `verifier ${key.caller} stopped`,
      begin: () => stopFor([worker.pid], VERIFIER_STOPS_MS[index]!),
      cutOff: [index],
      stopped: index,
    })),
    {
      ...normal,
      name: "auth stopped",
      during: second.logout,
      begin: () => stopFor([first.worker.pid], FAULT_MS),
      cutOff: everyone,
    },
    {
      ...normal,
      name: "a verifier stopped, and auth before it went on",
      during: second.logout,
      begin: () => stopInTurn(verifiers[0]!.worker.pid, first.worker.pid),
      cutOff: everyone,
    },
    {
      name: "one of two auths stopped",
      authUrls: verifiers.map((_, index) => auths[index % 2]!.internalUrl),
      before: second.logout,
      during: first.logout,
      begin: () => stopFor([second.worker.pid], FAULT_MS),
      cutOff: everyone.filter((index) => index % 2 === 1),
    },
    {
      ...normal,
      name: "PostgreSQL stopped",
      during: undefined,
      begin: () => stopPostgresFor(sql, FAULT_MS),
      cutOff: everyone,
    },
    { ...normal, name: "black hole", authUrls: all(proxy.url), begin: blackHole, cutOff: everyone },
  ];
}

/**
 * What auth had answered when the verifier was stopped is read when it goes on, and nothing new after it. Its stop is shorter
 * than what it waits for an answer.
 */
async function stopInTurn(verifier: number, auth: number): Promise<{ over: Promise<unknown> }> {
  const { over } = await stopFor([verifier], 2_500);
  const authOver = delay(2_000).then(async () => (await stopFor([auth], FAULT_MS)).over);
  return { over: Promise.all([over, authOver]) };
}

async function proveFault(setting: Setting, fault: Fault): Promise<void> {
  const { name, before, during = before, begin, cutOff, stopped } = fault;
  await follow(setting, fault.authUrls);
  const sessions = await makeSessions(setting.sql, setting.keys, BEFORE.count + DURING.count + LIVE_SESSIONS);
  const early = sessions.slice(0, fault.during ? BEFORE.count : BEFORE.count + DURING.count);
  const late = sessions.slice(early.length, BEFORE.count + DURING.count);
  await watch(setting, sessions, () => 0);
  await settle(setting, { name, revocations: new Array(sessions.length).fill(undefined), reports: [] });
  const startMs = nowMs();
  const earlyMs = early.map((_, index) => startMs + index * BEFORE.everyMs);
  const endedEarly = endAt(early, earlyMs, before);
  await delay(earlyMs.at(-1)! - nowMs());
  // The last ones are on their way.
  const { over } = await begin();
  const beganMs = nowMs();
  const lateMs = late.map((_, index) => beganMs + DURING.afterMs + index * DURING.everyMs);
  const endedLate = endAt(late, lateMs, during);
  await over;
  const overMs = nowMs();
  const live = new Array(LIVE_SESSIONS).fill(undefined);
  const revocations = [...(await endedEarly), ...(await endedLate), ...live];
  const trial = await settle(setting, { name, revocations, reports: [] });
  judgeFault(setting.goals, { ...trial, overMs, cutOff, stopped });
}

process.exitCode = await main();
