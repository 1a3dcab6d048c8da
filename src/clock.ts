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

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};
