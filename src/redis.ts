/**
 * Redis, for what replicas share and can do without: it is never waited for long, and whoever asks it learns of any
 * failure only by having no answer. After a failure it is left alone for a second, and one that is silent is connected
 * to anew.
 */
import { createHmac } from "node:crypto";
import { once } from "node:events";
import type { Clock } from "./clock.ts";
import { connectRedis, LEFT_ALONE_MS } from "./redis-client.ts";
import type { SimpleLog } from "./simple-log.ts";

export interface Redis extends AsyncDisposable {
  /**
   * What a script in Lua returns, which takes these keys, and these arguments. Undefined when there is no answer in time,
   * or a fault, or Redis is left alone. What comes back may have been put there by anybody: look at it.
   */
  run(script: string, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown>;
  /** The key of something, the same in all processes that have the same URL. Nobody reads from it what it is of. */
  keyOf(purpose: string, ...parts: string[]): string;
  /** Whether it answered when it was last asked. */
  readonly isUp: boolean;
  /** Questions and connections that failed. */
  readonly failures: number;
}

export interface RedisOptions {
  /** With the password inside. */
  url: string;
  /** The authorities (PEM) that are trusted, instead of the well-known ones. */
  ca?: string;
  /** What processes share by it, for the log: "limits". */
  shares: string;
  /** The longest that anybody waits for an answer. */
  timeoutMs: number;
  clock: Clock;
  log: SimpleLog;
}

/** Begins to connect, and does not wait for it. */
export async function openRedis({ url, ca, shares, timeoutMs, clock, log }: RedisOptions): Promise<Redis> {
  const client = await connectRedis({ url, ca, timeoutMs });
  const health = new Health(shares, clock, log);
  client.on("error", (error: unknown) => health.failed(error));
  const secret = new URL(url).password;
  return {
    async run(script, keys, args) {
      if (client.status !== "ready" || !health.mayAsk()) return undefined;
      try {
        const answer = await client.eval(script, keys.length, ...keys, ...args);
        health.answered();
        return answer;
      } catch (error) {
        health.failed(error);
        // Its late answers would be in the way of others.
        if (client.status === "ready") client.stream.destroy();
        return undefined;
      }
    },
    keyOf(purpose, ...parts) {
      const name = createHmac("sha256", secret).update(JSON.stringify(parts)).digest("base64url");
      return `concierge:${purpose}:${name}`;
    },
    get isUp() {
      return health.isUp;
    },
    get failures() {
      return health.failures;
    },
    async [Symbol.asyncDispose]() {
      const { stream } = client;
      client.disconnect();
      if (!stream || stream.closed) return;
      stream.destroy();
      await once(stream, "close");
    },
  };
}

/** Whether it answers, as the log and metrics tell. */
class Health {
  readonly #shares: string;
  readonly #clock: Clock;
  readonly #log: SimpleLog;
  #answers: boolean | undefined;
  #failures = 0;
  #leftAloneUntil = Number.NEGATIVE_INFINITY;

  constructor(shares: string, clock: Clock, log: SimpleLog) {
    this.#shares = shares;
    this.#clock = clock;
    this.#log = log;
  }

  get isUp(): boolean {
    return this.#answers === true;
  }

  get failures(): number {
    return this.#failures;
  }

  /** After a failure nobody for a second, and then one: if that one waits in vain, at least nobody else does. */
  mayAsk(): boolean {
    const now = this.#clock.monotonic();
    if (now < this.#leftAloneUntil) return false;
    if (this.#answers === false) this.#leftAloneUntil = now + LEFT_ALONE_MS;
    return true;
  }

  answered(): void {
    if (!this.#answers) this.#log.info(`Redis answers: ${this.#shares} are shared with other processes`);
    this.#answers = true;
    this.#leftAloneUntil = Number.NEGATIVE_INFINITY;
  }

  failed(error: unknown): void {
    this.#failures++;
    this.#leftAloneUntil = this.#clock.monotonic() + LEFT_ALONE_MS;
    if (this.#answers !== false) {
      const message = `Redis does not answer: ${this.#shares} are not shared with other processes`;
      this.#log.warn({ cause: causeOf(error) }, message);
    }
    this.#answers = false;
  }
}

/** Never the whole error: it carries what was sent, the password included. */
export function causeOf(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (typeof code === "string") return code;
  return /^[A-Z]+\b/.exec(String(message))?.[0] ?? "no answer";
}
