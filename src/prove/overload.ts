/**
 * `make prove/overload`: twice as many calls as the server can do, at a steady rate, whatever becomes of them. It must go on
 * doing nearly what it can, say no at once to the rest, and be itself again right after. With three bounds: "waiting" waits, as
 * a database does; "busy" is the processor, where each call computes something; "light", where a call does next to nothing, is
 * shown, and proves nothing. Half a minute each; FULL=1 for five minutes, QUICK=1 for ten seconds without "light",
 * SECONDS for another time. ONLY=<bound> takes one of them, CALLS=<number> sets how many calls the server works on at once.
 */
import { machineLine, median } from "../bench/figures.ts";
import { Goals } from "./figures.ts";
import type { Second } from "./overload-client.ts";
import type { Bound } from "./overload-server.ts";
import { startWorker, type Worker } from "./workers.ts";

const { FULL, QUICK, ONLY, CALLS, SECONDS } = process.env;
const OVERLOAD_SECONDS = Number(SECONDS ?? (FULL ? 300 : QUICK ? 10 : 30));
const RECOVERY_SECONDS = 12;
const CONNECTIONS = 200;
const WARM_UP_MS = 2_000;
const FACTOR = 2;
/** After the overload: an everyday load. */
const REST_SHARE = 0.5;
const GOODPUT_SHARE = 0.9;
const REFUSED_MS = 50;
const RECOVERED_MS = 10_000;
const SUCCESS_SHARE = 0.99;
/** It is itself again when it is for so long. */
const CALM_SECONDS = 3;
/** A generator that is later than this shares its processor with somebody else: the figures say little. */
const MAX_QUIET_LAG_MS = 5;
/** The first moments of an overload fill what there is to fill. */
const FILLING_SECONDS = 2;

/** All of the load comes from one address. */
const ONE_ADDRESS = { CONCIERGE_CALLS_PER_ADDRESS: "1000000" };
/**
 * How the server is set up. To a processor, more calls at once are only a longer wait: it gets as many as it does in the time
 * that a refusal may take. "light" is shown, and proves nothing: refusing a call costs most of what greeting does.
 */
const SETUPS: Record<Bound, { variables: Record<string, string>; isGoal: boolean }> = {
  waiting: { variables: { ...ONE_ADDRESS, CONCIERGE_CALLS_IN_FLIGHT: CALLS ?? "500" }, isGoal: true },
  busy: { variables: { ...ONE_ADDRESS, CONCIERGE_CALLS_IN_FLIGHT: CALLS ?? "16" }, isGoal: true },
  light: { variables: { ...ONE_ADDRESS, CONCIERGE_CALLS_IN_FLIGHT: CALLS ?? "200" }, isGoal: false },
};
const BOUNDS: readonly Bound[] = ["waiting", "busy", "light"];
/** Open calls of the closed loop, which warms up and shows where to begin to look for the capacity. */
const OPEN_CALLS = 100;
const STEP = 1.3;
const STEP_SECONDS = 4;

async function main(): Promise<number> {
  const goals = new Goals("overload");
  goals.info(machineLine());
  for (const bound of BOUNDS) if (isWanted(bound)) await prove(bound, goals);
  return goals.missed === 0 ? 0 : 1;
}

function isWanted(bound: Bound): boolean {
  return ONLY ? ONLY === bound : !QUICK || SETUPS[bound].isGoal;
}

async function prove(bound: Bound, goals: Goals): Promise<void> {
  await using server = startWorker("overload-server");
  await using client = startWorker("overload-client");
  const target = await server.call<object>("start", { bound, variables: SETUPS[bound].variables });
  await client.call("open", { ...target, count: CONNECTIONS });
  const capacity = await findCapacity(client);
  const restRate = Math.round(capacity * REST_SHARE);
  const quiet = await sendAtRate(client, restRate, 5);
  goals.info(`${bound}: capacity ${Math.round(capacity)} calls/s; at half of it ${describe(quiet.slice(1))}`);

  const refusedBefore = await server.call<number>("refusals");
  const overload = await sendAtRate(client, Math.round(capacity * FACTOR), OVERLOAD_SECONDS);
  const after = await sendAtRate(client, restRate, RECOVERY_SECONDS);
  const refusals = (await server.call<number>("refusals")) - refusedBefore;
  goals.info(`${bound}: overloaded ${describe(overload.slice(FILLING_SECONDS))}`);
  goals.info(`${bound}: ${refusals} refused as OVERLOADED, says the server`);
  const lagMs = median(quiet.map(({ lagP99Ms }) => lagP99Ms));
  if (lagMs > MAX_QUIET_LAG_MS)
    goals.info(`${bound}: this machine is busy with other things (lag ${lagMs.toFixed(1)} ms)`);
  if (SETUPS[bound].isGoal) judge(goals, bound, { capacity, quiet, overload: overload.slice(FILLING_SECONDS), after });
}

/** The most right answers a second at any steady rate: more calls at once cost less each, as they share reads and writes. */
async function findCapacity(client: Worker): Promise<number> {
  const saturate = () => client.call<number>("saturate", { openCalls: OPEN_CALLS, durationMs: WARM_UP_MS });
  await saturate();
  let most = 0;
  let rate = await saturate();
  // Past twice of what it does at best, so that one moment in which the machine did something else decides nothing.
  for (; most === 0 || rate < most * FACTOR; rate *= STEP) {
    const seconds = await sendAtRate(client, Math.round(rate), STEP_SECONDS);
    most = Math.max(most, mean(seconds.slice(1).map(({ good }) => good)));
  }
  return most;
}

interface Runs {
  capacity: number;
  quiet: Second[];
  overload: Second[];
  after: Second[];
}

function judge(goals: Goals, bound: Bound, { capacity, quiet, overload, after }: Runs): void {
  const name = (what: string) => `R-NET-06 ${bound} ${what}`;
  const goodput = overload.map(({ good }) => good / capacity);
  const raw = goodput.map((share) => share.toFixed(2)).join(" ");
  goals.atLeast(name("goodput, share of capacity"), mean(goodput), GOODPUT_SHARE, raw);
  goals.atLeast(name("goodput of the last third"), mean(goodput.slice(-goodput.length / 3)), GOODPUT_SHARE);
  goals.atMost(name("refused after ms, p99"), median(overload.map(({ refusedP99Ms }) => refusedP99Ms)), REFUSED_MS);
  const lost = sum(overload.map(({ lost: each }) => each)) / sum(overload.map(({ due }) => due));
  goals.atMost(name("neither answered in time nor refused, share"), lost, 0.01);
  const quietMs = median(quiet.map(({ goodP99Ms }) => goodP99Ms));
  const isItself = ({ due, good, goodP99Ms }: Second) =>
    good >= due * SUCCESS_SHARE && goodP99Ms <= Math.max(2 * quietMs, REFUSED_MS);
  const recovered = after.findIndex((_, index) => after.slice(index, index + CALM_SECONDS).every(isItself));
  const tookMs = recovered < 0 ? Number.POSITIVE_INFINITY : recovered * 1_000;
  goals.atMost(name("recovered after ms"), tookMs, RECOVERED_MS, describe(after));
}

function sendAtRate(client: Worker, callsPerSecond: number, seconds: number): Promise<Second[]> {
  return client.call("sendAtRate", { callsPerSecond, seconds });
}

/** Means of a second, and medians of what each second's quantiles were. */
function describe(seconds: Second[]): string {
  const each = (pick: (second: Second) => number) => Math.round(mean(seconds.map(pick)));
  const ms = (pick: (second: Second) => number) => median(seconds.map(pick)).toFixed(1);
  const good = `good ${each(({ good }) => good)} (p50 ${ms((s) => s.goodP50Ms)} p99 ${ms((s) => s.goodP99Ms)} ms)`;
  const refused = `refused ${each((s) => s.refused)} (p50 ${ms((s) => s.refusedP50Ms)} p99 ${ms((s) => s.refusedP99Ms)} ms)`;
  return `due ${each(({ due }) => due)}/s: ${good}, ${refused}, lost ${each((s) => s.lost)}, lag p99 ${ms((s) => s.lagP99Ms)} ms`;
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function mean(values: number[]): number {
  return sum(values) / values.length;
}

process.exitCode = await main();
