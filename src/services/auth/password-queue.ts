/**
 * A bounded queue for work that costs: so much at a time, a short queue behind it, and a clear answer beyond that. Whoever
 * stops waiting leaves the queue.
 */
import { Code, fail } from "../../errors.ts";

const RETRY_AFTER_MS = 1_000;

export interface PasswordQueue {
  /** Runs a task when its turn comes. RESOURCE_EXHAUSTED / TOO_MANY_HASHES when too many wait already. */
  run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T>;
  /** Tasks that wait. */
  length(): number;
}

/** Runs at most `width` tasks at a time and lets at most `maxLength` wait. */
export function createPasswordQueue({ width, maxLength }: { width: number; maxLength: number }): PasswordQueue {
  let running = 0;
  const waiting = new Set<() => void>();

  async function enter(signal: AbortSignal): Promise<void> {
    if (running < width) {
      running += 1;
      return;
    }
    if (waiting.size >= maxLength) {
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
      try {
        return await task();
      } finally {
        exit();
      }
    },
    length: () => waiting.size,
  };
}
