/** Asking whether a session is live: once for all who wait, never remembered, and no answer is neither yes nor no. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import { createSessionCheck } from "./session-check.ts";

const claims = (sessionId: string, generation = 0) => ({
  userId: "u",
  sessionId,
  generation,
  authenticatedAt: 0,
  expiresAt: 0,
});

function asking() {
  const questions: { name: string; answer: PromiseWithResolvers<boolean> }[] = [];
  const check = createSessionCheck((sessionId, generation) => {
    const answer = Promise.withResolvers<boolean>();
    questions.push({ name: `${sessionId}/${generation}`, answer });
    return answer.promise;
  });
  return { questions, check };
}

test("one question at a time for a session and generation, shared by all who wait", async () => {
  const { questions, check } = asking();
  const waiting = [
    check(claims("a")),
    check(claims("a")),
    check(claims("a", 1)),
    check(claims("b")),
    check(claims("a")),
  ];
  assert.deepEqual(
    questions.map(({ name }) => name),
    ["a/0", "a/1", "b/0"],
  );
  questions[0]!.answer.resolve(true);
  questions[1]!.answer.resolve(false);
  questions[2]!.answer.resolve(false);
  assert.deepEqual(await Promise.all(waiting), [true, true, false, false, true]);
});

test("an answer is not remembered: the next call asks again, and sees that the session has ended", async () => {
  const { questions, check } = asking();
  for (const live of [true, false, true]) {
    const answer = check(claims("a"));
    questions.at(-1)!.answer.resolve(live);
    assert.equal(await answer, live);
  }
  assert.equal(questions.length, 3);
});

test("no answer is UNAVAILABLE / AUTH_STALE for all who wait, with a time to come back, and the next call asks anew", async () => {
  const { questions, check } = asking();
  const waiting = [check(claims("a")), check(claims("a"))];
  const cause = new ConnectError("no session", Code.Unauthenticated);
  questions[0]!.answer.reject(cause);
  for (const answer of waiting) {
    const error = await answer.then(() => assert.fail("it was answered"), ConnectError.from);
    assert.deepEqual([error.code, reasonOf(error), error.cause], [Code.Unavailable, "AUTH_STALE", cause]);
    assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 1n);
  }
  const next = check(claims("a"));
  questions[1]!.answer.resolve(true);
  assert.equal(await next, true);
});
