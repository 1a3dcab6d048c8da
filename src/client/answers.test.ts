/** Answers that many wait for: asked once, kept for as long as they may be, and never if they are faults. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, fail } from "../errors.ts";
import { createTestClock } from "../testing/clock.ts";
import { Answers, unauthenticated } from "./answers.ts";

function openAnswers() {
  const clock = createTestClock();
  const answers = new Answers<{ text: string }>({ now: () => clock.monotonic(), max: 10 });
  const asked: string[] = [];
  const find = async (name: string, answer: () => Promise<string> | string = () => name, keepMs = 1_000) => {
    const ask = async () => {
      asked.push(name);
      return { value: { text: await answer() }, keepMs };
    };
    return (await answers.find(name, ask)).text;
  };
  return { clock, answers, asked, find };
}

test("whoever asks while the question is under way shares its answer", async () => {
  const { asked, find } = openAnswers();
  assert.deepEqual(await Promise.all([find("a"), find("a"), find("b")]), ["a", "a", "b"]);
  assert.deepEqual(asked, ["a", "b"]);
});

test("an answer is kept until its time is over, counted from when the question was sent", async () => {
  const { clock, asked, find } = openAnswers();
  const slowly = () => {
    clock.advance(400);
    return "a";
  };
  await find("a", slowly);
  clock.advance(599);
  await find("a", slowly);
  assert.equal(asked.length, 1);
  clock.advance(2);
  await find("a", slowly);
  assert.equal(asked.length, 2);
  const tooLate = () => {
    clock.advance(1_000);
    return "late";
  };
  await find("late", tooLate);
  await find("late", tooLate);
  assert.equal(asked.length, 4);
});

test("S-SDK-03 a refusal is kept for a second at most, a fault never", async () => {
  const { clock, asked, find } = openAnswers();
  const refuse = () => Promise.reject(unauthenticated());
  for (const calls of [1, 1, 2]) {
    await assert.rejects(find("refused", refuse), { code: Code.Unauthenticated });
    assert.equal(asked.length, calls);
    clock.advance(501);
  }
  asked.length = 0;
  const stumble = () => Promise.reject(fail(Code.Unavailable, "UNAVAILABLE", "away"));
  await assert.rejects(find("fault", stumble), { code: Code.Unavailable });
  assert.equal(await find("fault"), "fault");
  assert.equal(asked.length, 2);
});

test("what was on its way while it was forgotten is answered, and not kept", async () => {
  for (const forget of ["forget", "clear"] as const) {
    const { answers, asked, find } = openAnswers();
    const { promise, resolve } = Promise.withResolvers<string>();
    const waiting = find("a", () => promise);
    answers[forget]("a");
    resolve("old");
    assert.equal(await waiting, "old");
    assert.equal(await find("a", () => "new"), "new");
    assert.equal(asked.length, 2);
  }
});
