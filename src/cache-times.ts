/** Lifetimes of what is kept in an lru-cache: counted by a clock of ours, and not the same for all that was kept at once. */

/** How much shorter than asked for a lifetime may be, so that what was kept together does not end together. */
const JITTER = 0.1;

/** Options of an LRUCache whose lifetimes (`ttl`) are counted by this clock, to the millisecond. */
export function agedBy(now: () => number) {
  // It takes an entry that was kept at 0 for one without a lifetime.
  return { ttlResolution: 0, perf: { now: () => now() + 1 } };
}

/** Up to a tenth shorter than `ms`, in whole milliseconds; at least one. */
export function jittered(ms: number): number {
  return Math.max(1, Math.floor(ms * (1 - Math.random() * JITTER)));
}
