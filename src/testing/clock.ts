/** A clock that stands still until a test moves it. */
import type { Clock } from "../clock.ts";

export interface TestClock extends Clock {
  /** Moves both the wall clock and the monotonic one. */
  advance(ms: number): void;
}

/** Starts at the real time, so that it agrees with databases that were not offset. */
export function createTestClock(startMs = Date.now()): TestClock {
  let passedMs = 0;
  return {
    now: () => startMs + passedMs,
    monotonic: () => passedMs,
    advance(ms) {
      passedMs += ms;
    },
  };
}
