/**
 * The sessions that are known to have ended, each held until no access token of it would be accepted anyway. What is held is
 * only ever added to: neither a new snapshot nor another life of auth's feed takes a session out.
 */
import type { Clock } from "../clock.ts";
import { TOLERANCE_SECONDS } from "./compact.ts";

/** Once for tokens, which are accepted a little longer, and once for the clock of auth's database, which told the time. */
const TOLERANCE_MS = 2 * TOLERANCE_SECONDS * 1_000;
/** The longest that an access token can live; for who does not say how long one may. */
const LONGEST_TOKEN_MS = 3_600_000;
const SWEEP_MS = 1_000;
/** In so many steps everything held is looked at once. */
const SWEEP_STEPS = 60;

export class EndedSessions implements Disposable {
  readonly #clock: Clock;
  /** When to forget each, in milliseconds since 1970. */
  readonly #until = new Map<string, number>();
  readonly #listeners = new Map<string, Set<() => void>>();
  readonly #sweeper: NodeJS.Timeout;
  #sweeping: MapIterator<[string, number]>;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sweeping = this.#until.entries();
    this.#sweeper = setInterval(() => this.sweep(), SWEEP_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#sweeper);
  }

  get size(): number {
    return this.#until.size;
  }

  has(sessionId: string): boolean {
    return this.#until.has(sessionId);
  }

  /** Holds a session whose last access token expires at this time, in milliseconds since 1970. */
  hold(sessionId: string, tokensExpireAtMs = this.#clock.now() + LONGEST_TOKEN_MS): void {
    const until = Math.max(tokensExpireAtMs + TOLERANCE_MS, this.#until.get(sessionId) ?? 0);
    this.#until.set(sessionId, until);
    const listeners = this.#listeners.get(sessionId);
    this.#listeners.delete(sessionId);
    listeners?.forEach((listener) => void listener());
  }

  /** Calls back once, as soon as this session is held: at once if it is. Returns what stops that. */
  onEnded(sessionId: string, listener: () => void): () => void {
    if (this.#until.has(sessionId)) {
      listener();
      return () => {};
    }
    const listeners = this.#listeners.get(sessionId) ?? new Set();
    this.#listeners.set(sessionId, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(sessionId) === listeners) this.#listeners.delete(sessionId);
    };
  }

  /** Forgets some of those whose time is over: a part of all at each call, so that none takes long. */
  sweep(): void {
    const now = this.#clock.now();
    for (let left = Math.ceil(this.#until.size / SWEEP_STEPS); left > 0; left--) {
      const { value, done } = this.#sweeping.next();
      if (done) {
        this.#sweeping = this.#until.entries();
        return;
      }
      if (value[1] < now) this.#until.delete(value[0]);
    }
  }
}
