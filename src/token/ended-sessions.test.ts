/** What is held of sessions that have ended: long enough, not for ever, and told to those who wait for it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createTestClock } from "../testing/clock.ts";
import { EndedSessions } from "./ended-sessions.ts";

const START_MS = 1_700_000_000_000;

/** Sweeps through everything, however much is held. */
function sweepAll(ended: EndedSessions): void {
  for (let step = 0; step < 200; step++) ended.sweep();
}

test("a session is held until ten seconds after its last token's end, and not longer than needed", () => {
  const clock = createTestClock(START_MS);
  using ended = new EndedSessions(clock);
  ended.hold("a", START_MS + 300_000);
  clock.advance(310_000);
  sweepAll(ended);
  assert.equal(ended.has("a"), true);
  clock.advance(1);
  sweepAll(ended);
  assert.deepEqual([ended.has("a"), ended.size], [false, 0]);
});

test("the later of two times counts, and a session without one is held for an hour", () => {
  const clock = createTestClock(START_MS);
  using ended = new EndedSessions(clock);
  ended.hold("a", START_MS + 300_000);
  ended.hold("a", START_MS + 1_000);
  ended.hold("b");
  clock.advance(300_000);
  sweepAll(ended);
  assert.deepEqual([ended.has("a"), ended.has("b"), ended.size], [true, true, 2]);
  clock.advance(3_300_000);
  sweepAll(ended);
  assert.deepEqual([ended.has("a"), ended.has("b")], [false, true]);
});

test("one sweep looks at a sixtieth of what is held, and all of it is swept while more comes", () => {
  const clock = createTestClock(START_MS);
  using ended = new EndedSessions(clock);
  for (let number = 0; number < 6_000; number++) ended.hold(`old ${number}`, START_MS);
  clock.advance(10_001);
  ended.sweep();
  assert.equal(ended.size, 5_900);
  for (let number = 0; number < 100; number++) ended.hold(`new ${number}`, clock.now());
  // Of what is left each step takes a sixtieth, so the steps get smaller.
  for (let step = 0; step < 1_000; step++) ended.sweep();
  assert.equal(ended.size, 100);
});

test("whoever waits for a session is called once, or at once when it has ended, or not any more", () => {
  using ended = new EndedSessions(createTestClock(START_MS));
  const called: string[] = [];
  ended.onEnded("a", () => called.push("first"));
  const leave = ended.onEnded("a", () => called.push("left"));
  ended.onEnded("b", () => called.push("other"));
  leave();
  leave();
  ended.hold("a");
  ended.hold("a");
  assert.deepEqual(called, ["first"]);
  ended.onEnded("a", () => called.push("late"));
  assert.deepEqual(called, ["first", "late"]);
});
