/**
 * Time, passed in. Nothing in the code calls Date.now() or performance.now() itself, so a test can set the hour.
 * Rows take their time from the database (`concierge_now()`), which the test kit offsets together with this clock.
 */
export interface Clock {
  /** Wall time in milliseconds since 1970-01-01T00:00:00Z. */
  now(): number;
  /** Milliseconds on a clock that never goes back; only differences mean anything. */
  monotonic(): number;
}

/** A wall clock that is this much further on than it should be has not been corrected: the machine has slept. */
const SLEEP_MS = 1_000;

/**
 * Makes a clock of a wall clock and of one that never goes back. That one stands still while the machine or its virtual machine is
 * suspended, and whoever measured the age of something by it would take it for young: so what the wall clock has jumped forward is
 * added. A clock that was set forward then only makes things look older than they are.
 */
export function createClock(wall: () => number, steady: () => number): Clock {
  let sleptMs = 0;
  let offsetMs = wall() - steady();
  return {
    now: wall,
    monotonic() {
      const steadyMs = steady();
      const nowOffsetMs = wall() - steadyMs;
      if (nowOffsetMs - offsetMs > SLEEP_MS) sleptMs += nowOffsetMs - offsetMs;
      offsetMs = nowOffsetMs;
      return steadyMs + sleptMs;
    },
  };
}

export const systemClock: Clock = createClock(
  () => Date.now(),
  () => performance.now(),
);
