/**
 * `make prove/push`: five senders at 200 notifications a second. Without faults every push is accepted once; when senders are
 * killed, at each of four places or at random, together with processes of notification, nothing is lost, and what is accepted twice is
 * what a dead sender could not tell of, which devices show once. 20,000 notifications, 25 kills at each place and 100 at random
 * (FULL=1: 100,000, 250 and 1,000; QUICK=1: a tenth). ONLY=faultless, failpoints or random takes one part, SEED=<n> repeats the choices.
 */
import { machineLine, quantile } from "../bench/figures.ts";
import { Random } from "../testing/seeded.ts";
import { Goals } from "./figures.ts";
import { Author } from "./push-author.ts";
import { judge, latencyText } from "./push-checks.ts";
import { Kills } from "./push-kills.ts";
import { addPeople, openPushSetting, type PushSetting } from "./push-setting.ts";

const { FULL, QUICK, SEED, ONLY } = process.env;
const NOTIFICATIONS = FULL ? 100_000 : QUICK ? 2_000 : 20_000;
const KILLS_EACH = FULL ? 250 : QUICK ? 3 : 25;
const KILLS = FULL ? 1_000 : QUICK ? 10 : 100;
const SIZES = { notifications: 2, senders: 5, batchSize: 100 };
const PEOPLE = 2_000;
const RATE = 200;
/** The share of the rate that must have been there. */
const REACHED = 0.95;
/** With these the processes compile their code. */
const WARM_UP = RATE * 5;
const MAX_LATENCY_MS = 2_000;
/** What a dead sender held. */
const MAX_WAIT_MS = 30_000;

/** A part of the proof, over processes and tables of its own. */
interface Stage extends PushSetting {
  goals: Goals;
  random: Random;
  author: Author;
  /** Batches that a sender has under way at once. */
  lanes: number;
}

// At its places one batch at a time, so that it is known which place a copy comes from.
const PARTS: Record<string, { prove: (stage: Stage) => Promise<void>; lanes: number }> = {
  faultless: { prove: faultless, lanes: 2 },
  failpoints: { prove: failpoints, lanes: 1 },
  random: { prove: random, lanes: 2 },
};

async function main(): Promise<number> {
  const seed = Number(SEED ?? Math.floor(Math.random() * 2 ** 31));
  const goals = new Goals("push");
  goals.info(machineLine());
  goals.info(`SEED=${seed}`);
  for (const [index, [name, { prove, lanes }]] of Object.entries(PARTS).entries()) {
    if (ONLY && ONLY !== name) continue;
    await using opened = new AsyncDisposableStack();
    const setting = await openPushSetting({ ...SIZES, lanes }, opened);
    const people = await addPeople(setting.sql, PEOPLE);
    await Promise.all(setting.senders.map((sender) => sender.start()));
    const random = new Random(seed, index);
    // Choices of the author and of the killer come in an order of their own.
    const author = new Author({ clients: setting.clients, people, random: new Random(seed, 100 + index), rate: RATE });
    await prove({ ...setting, goals, random, author, lanes });
    const ended = [...setting.senders, ...setting.notifications].reduce(
      (sum, { endedByItself }) => sum + endedByItself,
      0,
    );
    goals.atMost(`${name}: processes that ended by themselves`, ended, 0);
  }
  return goals.missed === 0 ? 0 : 1;
}

async function faultless(stage: Stage): Promise<void> {
  const { goals, author } = stage;
  const rate = await author.run(NOTIFICATIONS);
  goals.atLeast("R-NOT-13 created a second", rate, RATE * REACHED);
  const { copies, latenciesMs } = await judge(goals, "R-NOT-04 G4", author, stage);
  const warm = latenciesMs.slice(WARM_UP);
  goals.atMost("R-NOT-04 G4: pushed twice", copies, 0);
  const what = `R-NOT-13 created to accepted at ${RATE} a second, p99 ms`;
  goals.atMost(what, quantile(warm, 0.99), MAX_LATENCY_MS, latencyText(warm));
}

async function failpoints(stage: Stage): Promise<void> {
  await underKills("R-NOT-01 G3", stage, (kills) => kills.atFailpoints(KILLS_EACH, stage.goals));
}

async function random(stage: Stage): Promise<void> {
  await underKills("R-NOT-02 G3", stage, (kills) => kills.atRandom(KILLS, stage.random));
}

async function underKills(what: string, stage: Stage, attack: (kills: Kills) => Promise<void>): Promise<void> {
  const { goals, author } = stage;
  const kills = new Kills(stage);
  const over = new AbortController();
  const writing = author.run(Number.POSITIVE_INFINITY, over.signal);
  await attack(kills);
  over.abort();
  goals.info(`${what}: ${(await writing).toFixed(0)} created a second`);
  const pushes = await judge(goals, what, author, stage);
  kills.tellCopies(goals, what, pushes, SIZES.batchSize * stage.lanes);
  kills.tellWaits(goals, what, pushes, MAX_WAIT_MS);
  goals.info(`${what}: ${latencyText(pushes.latenciesMs)}`);
}

process.exitCode = await main();
