/**
 * A bounded queue for work that costs: so much at a time, a short queue behind it, and a clear answer beyond that. Short is
 * a number, and a time: where work takes longer than usual, whoever would wait past the deadline is told at once. Whoever stops
 * waiting leaves the queue.
 */
import { type Clock, systemClock } from "../../clock.ts";
import { Code, fail } from "../../errors.ts";

const RETRY_AFTER_MS = 1_000;
/** So many may wait in any case: one task that took long says little of the others. */
const FEW = 8;
/** What the newest task counts in what a task takes. */
const SHARE_OF_NEWEST = 0.2;

export interface PasswordQueue {
  /** Runs a task when its turn comes. RESOURCE_EXHAUSTED / TOO_MANY_HASHES when too many wait already. */
  run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T>;
  /** Tasks that wait. */
  length(): number;
}

export interface PasswordQueueOptions {
  /** Tasks at a time. */
  width: number;
  /** Tasks that may wait. */
  maxLength: number;
  /** The longest that one may have to wait, going by what tasks took lately. */
  longestWaitMs: number;
  /** The system's unless told: what a task takes is time of this machine, whatever clock the service goes by. */
  clock?: Pick<Clock, "monotonic">;
}

export function createPasswordQueue(options: PasswordQueueOptions): PasswordQueue {
  const { width, maxLength, longestWaitMs, clock = systemClock } = options;
  let running = 0;
  const waiting = new Set<() => void>();
  /** What a task takes; undefined before the first has ended. */
  let taskMs: number | undefined;

  function isFull(): boolean {
    const waitMs = ((waiting.size + 1) * (taskMs ?? 0)) / width;
    return waiting.size >= maxLength || (waiting.size >= FEW && waitMs > longestWaitMs);
  }

  async function enter(signal: AbortSignal): Promise<void> {
    if (running < width) {
      running += 1;
      return;
    }
    if (isFull()) {
      const message = "too many passwords are being checked, try again";
      throw fail(Code.ResourceExhausted, "TOO_MANY_HASHES", message, { retryAfterMs: RETRY_AFTER_MS });
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => {
      waiting.delete(resolve);
      reject(signal.reason);
    };
    waiting.add(resolve);
    signal.addEventListener("abort", leave, { once: true });
    await promise.finally(() => signal.removeEventListener("abort", leave));
  }

  function note(tookMs: number): void {
    taskMs = taskMs === undefined ? tookMs : taskMs + (tookMs - taskMs) * SHARE_OF_NEWEST;
  }

  /** Hands the place to who has waited longest. */
  function exit(): void {
    const [next] = waiting;
    if (!next) {
      running -= 1;
      return;
    }
    waiting.delete(next);
    next();
  }

  return {
    async run(task, signal) {
      signal.throwIfAborted();
      await enter(signal);
      const startedAt = clock.monotonic();
      try {
        return await task();
      } finally {
        note(clock.monotonic() - startedAt);
        exit();
      }
    },
    length: () => waiting.size,
  };
}
