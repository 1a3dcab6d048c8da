/**
 * Answers to questions that many ask at once: each is asked once for all who wait, and kept for a while, counted from when the question
 * was sent. UNAUTHENTICATED is kept for a second at most, a fault never (S-SDK-03).
 */
import { ConnectError } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import { agedBy } from "../cache-times.ts";
import { Code, fail } from "../errors.ts";
import { authStale } from "../token/session-check.ts";

const REFUSED_MS = 1_000;
const MAX_REFUSED = 10_000;

export interface AnswersOptions<Value> {
  /** Monotonic milliseconds. */
  now(): number;
  /** How many are kept. */
  max: number;
  /** For how many bytes there is room, and how many one takes; no limit but `max` unless told. */
  bytes?: { max: number; of(value: Value): number };
}

/** What a question was answered, and for how many milliseconds from when it was sent that is to be kept. */
export interface Answer<Value> {
  value: Value;
  keepMs: number;
}

export class Answers<Value extends object> {
  readonly #now: () => number;
  readonly #known: LRUCache<string, Value>;
  readonly #refused: LRUCache<string, true>;
  readonly #asking = new Map<string, Promise<Value>>();

  constructor({ now, max, bytes }: AnswersOptions<Value>) {
    this.#now = now;
    const room = bytes && { maxSize: bytes.max, sizeCalculation: bytes.of };
    this.#known = new LRUCache({ max, ...room, ...agedBy(now) });
    this.#refused = new LRUCache({ max: MAX_REFUSED, ttl: REFUSED_MS, ...agedBy(now) });
  }

  /** What is kept under this name. */
  get(name: string): Value | undefined {
    return this.#known.get(name);
  }

  /** What is kept under this name, or what `ask` answers, once for all who wait. */
  find(name: string, ask: () => Promise<Answer<Value>>): Value | Promise<Value> {
    return this.#known.get(name) ?? this.ask(name, ask);
  }

  /** What `ask` answers, once for all who wait, whatever is kept. */
  async ask(name: string, ask: () => Promise<Answer<Value>>): Promise<Value> {
    if (this.#refused.has(name)) throw unauthenticated();
    const running = this.#asking.get(name);
    if (running) return running;
    const answer: Promise<Value> = this.#ask(name, ask, () => this.#asking.get(name) === answer);
    this.#asking.set(name, answer);
    const end = () => void (this.#asking.get(name) === answer && this.#asking.delete(name));
    answer.then(end, end);
    return answer;
  }

  /** Also what is on its way is not kept. */
  forget(name: string): void {
    this.#known.delete(name);
    this.#asking.delete(name);
  }

  /** Also what is on its way is not kept. */
  clear(): void {
    this.#known.clear();
    this.#asking.clear();
  }

  async #ask(name: string, ask: () => Promise<Answer<Value>>, isAsking: () => boolean): Promise<Value> {
    const askedAt = this.#now();
    try {
      const { value, keepMs } = await ask();
      const ttl = Math.floor(keepMs - (this.#now() - askedAt));
      if (ttl > 0 && isAsking()) this.#known.set(name, value, { ttl });
      return value;
    } catch (error) {
      if (isUnauthenticated(error) && isAsking()) this.#refused.set(name, true);
      throw error;
    }
  }
}

/**
 * What becomes of a question about a token that auth has refused: UNAUTHENTICATED, unless it refuses another question, too. Then it means
 * our own key, or our clock, and says nothing of the token: UNAVAILABLE / AUTH_STALE. Other errors stay as they are.
 */
export async function refusedBy(error: unknown, askAnother: () => Promise<unknown>): Promise<never> {
  if (!isUnauthenticated(error)) throw error;
  const isOurs = await askAnother().then(() => false, isUnauthenticated);
  throw isOurs ? authStale(error) : error;
}

function isUnauthenticated(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Unauthenticated;
}

/** The refusal of a token, whatever is wrong with it. */
export function unauthenticated(cause?: unknown): ConnectError {
  return fail(Code.Unauthenticated, "UNAUTHENTICATED", "unauthenticated", { cause });
}
