/**
 * What peers do not take of their answers: an answer of which nothing moves for too long is stuck. An answer is written in
 * chunks, and how much of one is out cannot be seen: a large one gets more time.
 */

/** Slower than this, nobody may read. */
const SLOWEST_BYTES_PER_MS = 16;

interface Backlog {
  /** Grows when the peer takes something. */
  progress: number;
  /** Monotonic time at which it last did. */
  since: number;
  /** Monotonic time at which we gave the answer up. */
  givenUpAt?: number;
}

/** The answers of one connection that wait for their peer. */
export class UnreadAnswers<Writer extends object> {
  readonly #backlogs = new Map<Writer, Backlog>();

  has(writer: Writer): boolean {
    return this.#backlogs.has(writer);
  }

  /** Whether the writer, which has `pendingBytes` to write, made no progress for `timeoutMs` (and what its size allows). */
  isStuck(writer: Writer, progress: number, pendingBytes: number, now: number, timeoutMs: number): boolean {
    const backlog = this.#backlogs.get(writer);
    if (!backlog) {
      this.#backlogs.set(writer, { progress, since: now });
      return false;
    }
    if (progress > backlog.progress) backlog.since = now;
    backlog.progress = progress;
    return now - backlog.since >= timeoutMs + pendingBytes / SLOWEST_BYTES_PER_MS;
  }

  /** Notes that this answer will not be written to its end. */
  giveUp(writer: Writer, now: number): void {
    this.#backlogs.get(writer)!.givenUpAt = now;
  }

  givenUpAt(writer: Writer): number | undefined {
    return this.#backlogs.get(writer)?.givenUpAt;
  }

  /** False when it was not known. */
  forget(writer: Writer): boolean {
    return this.#backlogs.delete(writer);
  }
}
