/** The thread of password-strength.ts: answers each question with one message, in order. */
import { parentPort } from "node:worker_threads";
import { ZxcvbnFactory } from "@zxcvbn-ts/core";
import { dictionary as common, adjacencyGraphs as graphs } from "@zxcvbn-ts/language-common";
import { dictionary as english } from "@zxcvbn-ts/language-en";
import type { StrengthAnswer, StrengthQuestion } from "./password-strength.ts";

/** Code points that are judged: what follows makes no password weaker, and the time grows with the square. */
const JUDGED_LENGTH = 64;
/** Shorter words are in too many others. */
const MIN_WORD_LENGTH = 3;
/** Ways to read "p4$$w0rd" that are tried. With zxcvbn's 100 a random UUID takes 400 ms, with these 20. */
const MAX_SUBSTITUTIONS = 4;

const zxcvbn = new ZxcvbnFactory({
  dictionary: { ...common, ...english },
  graphs,
  l33tMaxSubstitutions: MAX_SUBSTITUTIONS,
});
const commonPasswords = new Set(common["passwords-common"]);

function judge({ password, knownTexts }: StrengthQuestion): StrengthAnswer {
  const text = [...password].slice(0, JUDGED_LENGTH).join("");
  const words = wordsOf(knownTexts);
  // What others know adds nothing, however it is combined; zxcvbn alone would only count it as one more common word.
  const rest = words.length === 0 ? text : text.replaceAll(new RegExp(words.join("|"), "giu"), "");
  const isKnown = rest !== text && !/[\p{L}\p{N}]/u.test(rest);
  return {
    isCommon: isKnown || commonPasswords.has(password.toLowerCase()),
    score: zxcvbn.check(rest, words).score,
  };
}

/** Letters and digits only, so they mean themselves in a pattern; the longest first, so that none is taken apart. */
function wordsOf(texts: string[]): string[] {
  const words = texts.flatMap((text) => text.toLowerCase().split(/[^\p{L}\p{M}\p{N}]+/u));
  return words.filter((word) => [...word].length >= MIN_WORD_LENGTH).sort((one, other) => other.length - one.length);
}

parentPort!.on("message", (question: StrengthQuestion) => parentPort!.postMessage(judge(question)));
