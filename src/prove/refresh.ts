/**
 * `make prove/refresh`: two processes of auth over one database, and what must never happen to a refresh family: two live
 * successors of one token, a different answer to a call that is repeated, a session that outlives the end of its account's sessions,
 * a family that a kill -9 has torn. 2,000 races (QUICK=1: 500; FULL=1: 100,000) in about two minutes; SEED=... repeats a run.
 */
import { machineLine } from "../bench/figures.ts";
import { createServiceKey } from "../token/key-making.ts";
import { openAuthSetting } from "./auth-setting.ts";
import { Goals } from "./figures.ts";
import { proveEnds } from "./refresh-ends.ts";
import { proveKills } from "./refresh-kills.ts";
import { proveRaces, proveRepetitions } from "./refresh-races.ts";

const { FULL, QUICK, SEED: SEED_GIVEN } = process.env;
const SEED = Number(SEED_GIVEN ?? Math.trunc(Math.random() * 2 ** 31));
const RACES = FULL ? 100_000 : QUICK ? 500 : 2_000;
const REPETITIONS = RACES / 4;
/** With a password hash each. */
const ENDS = FULL ? 1_000 : QUICK ? 20 : 60;
const KILLS = FULL ? 200 : QUICK ? 8 : 20;

async function main(): Promise<number> {
  const goals = new Goals("refresh");
  goals.info(machineLine());
  goals.info(`SEED=${SEED}`);
  await using opened = new AsyncDisposableStack();
  const operator = createServiceKey("operator", "auth", "operator");
  const setting = await openAuthSetting([operator], opened);
  await proveRaces(goals, setting, RACES);
  await proveRepetitions(goals, setting, REPETITIONS);
  await proveEnds(goals, setting, { operator, rounds: ENDS });
  await proveKills(goals, setting, { kills: KILLS, seed: SEED });
  return goals.missed === 0 ? 0 : 1;
}

process.exitCode = await main();
