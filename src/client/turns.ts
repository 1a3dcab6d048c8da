/**
 * Few calls at once: hundreds that are given up together look like a flood to the peer, which would close the connection and refuse new
 * ones. So those that are too many wait here, in order, where leaving costs nobody anything.
 */
import { ConnectError } from "@connectrpc/connect";
import { Code, fail } from "../errors.ts";

/** Gives a turn back; to be called once. */
export type Leave = () => void;

export class Turns {
  readonly #waiting = new Set<() => void>();
  #free: number;

  /** So many may be taken at a time. */
  constructor(max: number) {
    this.#free = max;
  }

  /** Resolves when it is one's turn. DEADLINE_EXCEEDED when that takes too long; rejects as the caller leaves. */
  async take(timeoutMs: number, signal: AbortSignal | undefined): Promise<Leave> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(timeoutMs, signal);
    return () => this.#leave();
  }

  #leave(): void {
    const [next] = this.#waiting;
    if (next) next();
    else this.#free += 1;
  }

  #wait(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      // At once and not in a later turn of the event loop: nobody gives a turn to who has gone, or to somebody twice.
      const stopWaiting = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", depart);
        this.#waiting.delete(enter);
      };
      const enter = () => {
        stopWaiting();
        resolve();
      };
      const depart = () => {
        stopWaiting();
        reject(ConnectError.from(signal!.reason, Code.Canceled));
      };
      const giveUp = () => {
        stopWaiting();
        reject(fail(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline has passed"));
      };
      const timer = setTimeout(giveUp, timeoutMs);
      if (signal?.aborted) return depart();
      signal?.addEventListener("abort", depart, { once: true });
      this.#waiting.add(enter);
    });
  }
}
