/**
 * `make prove/access`: what access decides, on two replicas, against an oracle of a few lines after each of 10,000 random changes;
 * 10,000 grants and revocations, each checked at once with the token that came back; 100,000 answers that were on their way while
 * rights changed. QUICK=1 takes a twentieth, CHANGES=<n> another number. SEED=... repeats a run.
 */
import { machineLine } from "../bench/figures.ts";
import { AccessModel } from "../testing/access-model.ts";
import { type AccessSetting, openAccessSetting } from "../testing/access-setting.ts";
import { raceFills } from "../testing/rights-race.ts";
import { Random } from "../testing/seeded.ts";
import { Goals } from "./figures.ts";

const { QUICK, SEED: SEED_GIVEN, CHANGES: CHANGES_GIVEN } = process.env;
const SEED = Number(SEED_GIVEN ?? Math.trunc(Math.random() * 2 ** 31));
const CHANGES = Number(CHANGES_GIVEN ?? (QUICK ? 500 : 10_000));
const RACES = CHANGES * 10;
const OTHER_WAYS_EVERY = 20;
const MAX_DIFFERENCES = 5;

async function main(): Promise<number> {
  const goals = new Goals("access");
  goals.info(machineLine());
  goals.info(`SEED=${SEED}`);
  goals.atMost(`R-CON-06 wrong answers in ${RACES} races`, await raceFills(RACES), 0);
  await using setting = await openAccessSetting();
  goals.atMost(`S-TEN-16 differences in ${CHANGES} changes`, await countDifferences(goals, setting), 0);
  await using another = await openAccessSetting();
  goals.atMost(`R-CON-01 stale answers in ${CHANGES} grants and revocations`, await countStale(another), 0);
  return goals.missed === 0 ? 0 : 1;
}

async function countDifferences(goals: Goals, setting: AccessSetting): Promise<number> {
  const model = new AccessModel(setting, new Random(SEED));
  const history: string[] = [];
  let differences = 0;
  for (let change = 1; change <= CHANGES && differences < MAX_DIFFERENCES; change++) {
    history.push(await model.change());
    try {
      await model.compare();
      if (change % OTHER_WAYS_EVERY === 0) await model.compareOtherWays();
    } catch (error) {
      differences += 1;
      goals.info(`change ${change}: ${(error as Error).message}\nafter\n${history.slice(-20).join("\n")}`);
    }
  }
  return differences;
}

async function countStale({ access, replicas, organizationId, people, join }: AccessSetting): Promise<number> {
  const [, member] = people;
  await join(member!);
  const { userId } = member!;
  const permission = "things:do";
  let stale = 0;
  for (let change = 0; change < CHANGES; change++) {
    const isGiven = change % 2 === 0;
    const call = isGiven ? access.grantPermission : access.revokePermission;
    const { consistencyToken } = await call({ userId, permission });
    const headers = { "consistency-token": consistencyToken };
    const checks = replicas.map((replica) =>
      replica.checkPermission({ userId, organizationId, permission }, { headers }),
    );
    for (const { allowed } of await Promise.all(checks)) if (allowed !== isGiven) stale += 1;
  }
  return stale;
}

process.exitCode = await main();
