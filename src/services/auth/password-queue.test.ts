import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { reasonOf } from "../../errors.ts";
import { createTestClock } from "../../testing/clock.ts";
import { createPasswordQueue } from "./password-queue.ts";

const never = new AbortController().signal;

/** A queue with two places, and tasks that end when they are told to. */
function openQueue() {
  const clock = createTestClock();
  const queue = createPasswordQueue({ width: 2, maxLength: 100, longestWaitMs: 3_000, clock });
  const running: (() => void)[] = [];
  const run = () => queue.run(() => new Promise<void>((end) => running.push(end)), never);
  /** Ends those that run, after so long. */
  const work = async (ms: number) => {
    await new Promise(setImmediate);
    clock.advance(ms);
    for (const end of running.splice(0)) end();
    await new Promise(setImmediate);
  };
  const refusal = () =>
    run().then(
      () => "none",
      (error: unknown) => reasonOf(ConnectError.from(error)),
    );
  return { queue, run, work, refusal };
}

test("S-PWD-03 whoever would wait for too long is told to come back, however many may wait", async () => {
  const { queue, run, work, refusal } = openQueue();
  const first = [run(), run()];
  await work(500);
  await Promise.all(first);
  // two at a time, half a second each: the thirteenth would begin in more than three seconds
  const accepted = Array.from({ length: 2 + 12 }, run);
  assert.equal(await refusal(), "TOO_MANY_HASHES");
  assert.equal(queue.length(), 12);
  for (let round = 0; round < 7; round++) await work(500);
  await Promise.all(accepted);
});

test("a task that took long does not close the queue, and is forgotten when others are quick", async () => {
  const { queue, run, work, refusal } = openQueue();
  const slow = [run(), run()];
  await work(60_000);
  await Promise.all(slow);
  const few = Array.from({ length: 2 + 8 }, run);
  assert.equal(await refusal(), "TOO_MANY_HASHES");
  for (let round = 0; round < 5; round++) await work(50);
  await Promise.all(few);
  for (let round = 0; round < 20; round++) {
    const quick = [run(), run()];
    await work(50);
    await Promise.all(quick);
  }
  const many = Array.from({ length: 2 + 50 }, run);
  assert.equal(queue.length(), 50);
  for (let round = 0; round < 26; round++) await work(50);
  await Promise.all(many);
});
