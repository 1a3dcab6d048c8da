/**
 * `make prove/rolling`: two replicas of every service behind HAProxy, asked 300 things a second by people and a backend, while all
 * processes are restarted in turn (R-DEP-01), keys of pairs and signing keys are changed (R-KEY-03, R-KEY-01; tokens live five
 * seconds), and a newer version comes and goes (R-DEP-08). No call may fail, and what was acknowledged must be there, once.
 * QUICK=1: one round and three signing keys, at 100 a second. RATE: another rate. Half of all the backend's client decides in its memory.
 */
import { setTimeout as delay } from "node:timers/promises";
import { machineLine, quantile } from "../bench/figures.ts";
import { services } from "../services.ts";
import type { KeyStep } from "../token/key-rotation.ts";
import { Goals } from "./figures.ts";
import { CALLED, type Cluster, ISSUER, LOG_FILE, openCluster, STATE_PORT } from "./rolling-cluster.ts";
import { rotateSigningKeys, stepPairs, upgradeAndReturn } from "./rolling-events.ts";
import type { LoadTask, Report, Written } from "./rolling-load.ts";
import { wrongOf } from "./rolling-writes.ts";
import { startWorker, type Worker } from "./workers.ts";

const { QUICK, RATE } = process.env;
const CALLS_PER_SECOND = Number(RATE ?? (QUICK ? 100 : 300));
const TOKEN_SECONDS = 5;
/** The rounds: what becomes of the keys of pairs, and how many signing keys are changed after it. */
const ROUNDS: [KeyStep, number][] = QUICK
  ? [["publish", 3]]
  : [
      ["publish", 7],
      ["activate", 7],
      ["retire", 6],
    ];
/** Until all processes have compiled what they do all the time, and as long again for the figures of before. */
const CALM_MS = QUICK ? 15_000 : 20_000;
const SIDE_BY_SIDE_MS = QUICK ? 2_000 : 5_000;
const SHOWN_FAILURES = 10;

async function main(): Promise<number> {
  const goals = new Goals("rolling");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const cluster = await openCluster({ CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: String(TOKEN_SECONDS) }, opened);
  goals.info(`what all processes say is in ${LOG_FILE}`);
  const reachable = await innerPortsAt(new URL(cluster.publicUrl).hostname);
  goals.atMost("S-HMAC-13 ports for our own that the public address has", reachable.length, 0, reachable.join(", "));
  const load = opened.use(startWorker("rolling-load"));
  await load.call("start", taskOf(cluster));
  const reportOf = reporter(load, goals);
  await delay(CALM_MS);
  await reportOf("warming up");
  await delay(CALM_MS);
  const before = await reportOf("before");
  const rounds: Report[] = [];
  const signing: Report[] = [];
  for (const [step, keys] of ROUNDS) {
    await rotateSigningKeys(cluster, keys, TOKEN_SECONDS, async () => {
      signing.push(await reportOf(`${keys} signing keys published`));
      await stepPairs(cluster, step);
      rounds.push(await reportOf(`every process restarted, keys of pairs: ${step}`));
    });
    signing.push(await reportOf(`${keys} signing keys activated, all others retired`));
  }
  await upgradeAndReturn(cluster, () => delay(SIDE_BY_SIDE_MS));
  const upgrade = await reportOf("a newer version and back");
  const written = await load.call<Written>("stop");
  const end = await reportOf("end");
  judge(goals, { before, rounds, signing, upgrade, end });
  const wrong = await wrongOf(cluster, written);
  const count = [written.names, written.roles, written.branches, written.notifications].reduce(
    (sum, writes) => sum + Object.keys(writes).length,
    0,
  );
  goals.atMost(
    `R-DEP-01 writes of ${count} that are not there as acknowledged`,
    wrong.length,
    0,
    wrong.slice(0, 5).join("; "),
  );
  return goals.missed === 0 ? 0 : 1;
}

/** Ports of internal listeners, and of the proxy's state, that answer at an address. */
async function innerPortsAt(host: string): Promise<number[]> {
  const ports = [STATE_PORT, ...services.map(({ ports }) => ports.internal)];
  const answers = ports.map((port) =>
    fetch(`http://${host}:${port}/`).then(
      () => [port],
      () => [],
    ),
  );
  return (await Promise.all(answers)).flat();
}

function taskOf({ publicUrl, internalUrl, backendKeys }: Cluster): LoadTask {
  const internalUrls = Object.fromEntries(CALLED.map((name) => [name, internalUrl(name)])) as LoadTask["internalUrls"];
  return { publicUrl, internalUrls, keys: backendKeys, issuer: ISSUER, callsPerSecond: CALLS_PER_SECOND };
}

/** Takes what became of the calls since the last time, and tells it. */
function reporter(load: Worker, goals: Goals): (phase: string) => Promise<Report> {
  return async (phase) => {
    const report = await load.call<Report>("report");
    const { latenciesMs, failures, mostLateMs } = report;
    const at = (share: number) => quantile(latenciesMs, share).toFixed(1);
    goals.info(
      `${phase}: ${latenciesMs.length} calls, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms, ` +
        `sent late by ${mostLateMs.toFixed(0)} ms at most, failed ${failures.length}`,
    );
    const kinds = Map.groupBy(failures, ({ call, why }) => `${call}: ${why}`);
    for (const [kind, { length }] of [...kinds].slice(0, SHOWN_FAILURES)) goals.info(`failed ${length} times: ${kind}`);
    return report;
  };
}

interface Reports {
  before: Report;
  rounds: Report[];
  signing: Report[];
  upgrade: Report;
  end: Report;
}

function judge(goals: Goals, { before, rounds, signing, upgrade, end }: Reports): void {
  const failed = (reports: Report[]) => reports.flatMap(({ failures }) => failures).length;
  const calls = (reports: Report[]) => reports.flatMap(({ latenciesMs }) => latenciesMs).length;
  const rolling = quantile(
    rounds.flatMap(({ latenciesMs }) => latenciesMs),
    0.99,
  );
  const changed = QUICK ? "" : " R-KEY-03";
  goals.atMost(`R-DEP-01${changed} failed of ${calls(rounds)} calls, rounds ${rounds.length}`, failed(rounds), 0);
  goals.ratioAtMost("R-DEP-01 p99 while restarting / before", rolling / quantile(before.latenciesMs, 0.99), 2);
  const keys = ROUNDS.reduce((sum, [, count]) => sum + count, 0);
  goals.atMost(`R-KEY-01 failed of ${calls(signing)} calls, signing keys changed ${keys}`, failed(signing), 0);
  goals.atMost(`R-DEP-08 failed of ${calls([upgrade])} calls`, failed([upgrade, end]), 0);
  const sent = Map.groupBy(
    [before, ...rounds, ...signing, upgrade, end].flatMap((report) => Object.entries(report.calls)),
    ([call]) => call,
  );
  const sums = [...sent].map(([call, counts]) => `${call} ${counts.reduce((sum, [, count]) => sum + count, 0)}`);
  goals.info(`sent: ${sums.join(", ")}`);
}

process.exitCode = await main();
