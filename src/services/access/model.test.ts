/** What access decides, against an oracle of a few lines, after each of many random changes. `make prove/access` does more of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AccessModel } from "../../testing/access-model.ts";
import { openAccessSetting } from "../../testing/access-setting.ts";
import { Random } from "../../testing/seeded.ts";

const CHANGES = 1_000;
const OTHER_WAYS_EVERY = 20;
const SEED = Number(process.env.SEED ?? 1);

test(`S-TEN-16 after each of ${CHANGES} random changes every decision is the oracle's (SEED=${SEED})`, async () => {
  await using setting = await openAccessSetting();
  const model = new AccessModel(setting, new Random(SEED));
  const history: string[] = [];
  for (let change = 1; change <= CHANGES; change++) {
    try {
      history.push(await model.change());
      await model.compare();
      if (change % OTHER_WAYS_EVERY === 0) await model.compareOtherWays();
    } catch (error) {
      assert.fail(
        `change ${change} of SEED=${SEED}: ${(error as Error).stack}\nafter\n${history.slice(-20).join("\n")}`,
      );
    }
  }
});
