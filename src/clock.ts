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

/**
 * How far another clock is ahead of ours, in milliseconds, or behind it (negative), as far as the time that asking took cannot explain
 * it. `theirs` was read between these two moments of ours, all in milliseconds since 1970.
 */
export function aheadMs(theirs: number, { askedAt, answeredAt }: { askedAt: number; answeredAt: number }): number {
  return theirs > answeredAt ? theirs - answeredAt : Math.min(0, theirs - askedAt);
}

export const systemClock: Clock = createClock(
  () => Date.now(),
  () => performance.now(),
);
