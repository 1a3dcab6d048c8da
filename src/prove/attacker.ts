/** Worker: runs one attack after another, at the lowest priority: it must not win by taking the others' processor. */
import { constants, setPriority } from "node:os";
import type { Attack, AttackTarget } from "./attack.ts";
import { controlFrames, rapidReset, rapidReset200, windowOverflow } from "./http2-attacks.ts";
import { idle, slowLoris } from "./slow-attacks.ts";
import { answerCommands } from "./workers.ts";

const attacks = { idle, rapidReset, rapidReset200, slowLoris, windowOverflow, controlFrames } satisfies Record<
  string,
  Attack
>;
export type AttackName = keyof typeof attacks;

setPriority(constants.priority.PRIORITY_LOW);
answerCommands({
  run: ({ attack, ...target }: AttackTarget & { attack: AttackName }) => attacks[attack](target),
});
