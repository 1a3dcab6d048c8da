/**
 * Notices when JavaScript holds up the process: while it runs, nothing is answered, no timer fires and no lease is renewed.
 * Measured by the platform's own clock and not by ours, because only real time passes there.
 */
import { type ELDHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import type { Logger } from "../log.ts";

/** A process that was held up for longer than this should get no calls for a moment. */
export const MAX_LAG_MS = 1_000;

const RESOLUTION_MS = 20;
const INTERVAL_MS = 1_000;
const NANOSECONDS_PER_MS = 1e6;

/** How late the event loop came to its work. */
interface Lag {
  p50Ms: number;
  p99Ms: number;
}

export interface EventLoopWatch extends Disposable {
  /** The longest delay of the last second or two. */
  lagMs(): number;
  /** Of the two seconds that ended last, at most a second ago. */
  lastInterval(): Lag;
}

/**
 * Starts watching; a delay over MAX_LAG_MS is logged, once until it is over. Two histograms take turns in being cleared,
 * because one that was just cleared misses the delay that follows at once.
 */
export function watchEventLoop(log: Logger): EventLoopWatch {
  const histograms = [startHistogram(), startHistogram()];
  let lastInterval: Lag = { p50Ms: 0, p99Ms: 0 };
  let isHeldUp = false;
  const lagMs = () => Math.max(...histograms.map(({ max }) => lateness(max)));
  const timer = setInterval(() => {
    const longestMs = lagMs();
    if (longestMs > MAX_LAG_MS && !isHeldUp) log.warn({ lagMs: Math.round(longestMs) }, "the event loop was held up");
    isHeldUp = longestMs > MAX_LAG_MS;
    lastInterval = lagOf(histograms[0]!);
    // The younger one may have missed a delay that began as it was cleared: until it has seen something, the other one stays.
    if (histograms[1]!.count === 0) return;
    const oldest = histograms.shift()!;
    oldest.reset();
    histograms.push(oldest);
  }, INTERVAL_MS).unref();
  return {
    lagMs,
    lastInterval: () => lastInterval,
    [Symbol.dispose]() {
      clearInterval(timer);
      for (const histogram of histograms) histogram.disable();
    },
  };
}

function startHistogram(): ELDHistogram {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  return histogram;
}

function lagOf(histogram: ELDHistogram): Lag {
  if (histogram.count === 0) return { p50Ms: 0, p99Ms: 0 };
  return { p50Ms: lateness(histogram.percentile(50)), p99Ms: lateness(histogram.percentile(99)) };
}

/** The histogram has the time between two firings of a timer, of which the resolution was asked for. */
function lateness(nanoseconds: number): number {
  return Math.max(0, nanoseconds / NANOSECONDS_PER_MS - RESOLUTION_MS);
}
