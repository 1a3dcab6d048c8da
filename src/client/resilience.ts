/**
 * What stands between a call and a peer that may be slow or gone. Outermost first:
 *
 * 1. cache (permissions.ts, verified-tokens.ts, organizations.ts): what is known and fresh takes no call. Outside of the breaker, so
 *    that an open one spoils no answer that is at hand.
 * 2. turn (turns.ts): few calls of a peer are under way at once. Outside of the breaker: who waits in our own line says nothing of the peer.
 * 3. breaker (circuit-breaker.ts): a peer that failed some calls in a row is left alone for a while. Outside of the retries, so that a
 *    call counts once, however often it was tried, and a refusal is not tried again.
 * 4. retry: of methods that may be repeated, a few times, after a random wait, and only as long as retries are few beside calls: else
 *    callers would keep down a peer that is on its knees.
 * 5. deadline: one for the whole call, the wait for a turn included, one for each try; the peer is told what is left.
 * 6. service token: an interceptor of the transport, so that each try has a new one.
 *
 * The fallback to REST (rest.ts) stands beside all of this and begins where nothing gets through (fallback.ts).
 */
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Transport } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import { Code, reasonOf } from "../errors.ts";
import type { SimpleLog } from "../simple-log.ts";
import { type BreakerState, CircuitBreaker, type Verdict } from "./circuit-breaker.ts";
import { pause, toldDelayMs } from "./pauses.ts";
import { Turns } from "./turns.ts";

export type { BreakerState } from "./circuit-breaker.ts";

export interface ResilienceOptions {
  /** For the whole call with all its tries, unless the caller names another. No call is without one. */
  timeoutMs: number;
  /** For a try that may be followed by another one; the last one has what is left. */
  attemptTimeoutMs: number;
  breaker: {
    /** In a row. */
    failures: number;
    openMs: number;
  };
  retry: {
    /** The first try included. */
    attempts: number;
    /** The wait is random: at least `firstMs`, at most twice, four times, ... as long, and never more than `maxMs`. */
    firstMs: number;
    maxMs: number;
    /** Retries for each call, over time: 0.1 for one in ten. */
    budget: number;
  };
}

export type PresetName = "default" | "seed0" | "seed1";

/** `seed0` and `seed1` are the timings of the clients that were there before. */
export const PRESETS: Record<PresetName, ResilienceOptions> = {
  default: {
    timeoutMs: 5_000,
    attemptTimeoutMs: 2_000,
    breaker: { failures: 5, openMs: 5_000 },
    retry: { attempts: 3, firstMs: 50, maxMs: 1_000, budget: 0.1 },
  },
  seed0: {
    timeoutMs: 5_000,
    attemptTimeoutMs: 5_000,
    breaker: { failures: 5, openMs: 60_000 },
    retry: { attempts: 1, firstMs: 0, maxMs: 0, budget: 0 },
  },
  seed1: {
    timeoutMs: 30_000,
    attemptTimeoutMs: 5_000,
    breaker: { failures: 5, openMs: 30_000 },
    retry: { attempts: 3, firstMs: 2_000, maxMs: 10_000, budget: 0.1 },
  },
};

/** A service takes more than 50 resets a second for a flood. */
const CALLS_AT_ONCE = 32;
/** Retries that may be saved up, and are there at first: so that a few failures of a client that makes few calls are tried again. */
const BUDGET_BURST = 10;

const TRANSIENT = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.Internal,
  Code.Unknown,
  Code.ResourceExhausted,
]);
/** Reasons by which RESOURCE_EXHAUSTED means the peer, and not somebody's quota or too long a message. Proxies give none. */
const EXHAUSTED_PEER = [undefined, "OVERLOADED", "RATE_LIMITED"];

export interface MakeResilientOptions extends ResilienceOptions {
  /** Of the peer, for the log. */
  name: string;
  clock: Clock;
  log: SimpleLog;
}

/** A transport that is guarded by a breaker, whose state it tells. */
export type ResilientTransport = Transport & { readonly breaker: BreakerState };

/**
 * Breaker, retries and deadlines around a transport whose interceptors sign each try anew. A call that the breaker refuses is
 * UNAVAILABLE / CIRCUIT_OPEN. Streams are refused while it is open, and count for nothing: when they answer is up to what they tell.
 */
export function makeResilient(transport: Transport, options: MakeResilientOptions): ResilientTransport {
  const { name, clock, log } = options;
  const breaker = new CircuitBreaker({ name, clock, log, ...options.breaker });
  const budget = createRetryBudget(options.retry.budget);
  const turns = new Turns(CALLS_AT_ONCE);
  return {
    get breaker() {
      return breaker.state;
    },
    async unary(method, signal, timeoutMs, ...rest) {
      breaker.check();
      const wholeMs = timeoutMs && timeoutMs > 0 ? timeoutMs : options.timeoutMs;
      const endsAt = clock.monotonic() + wholeMs;
      const leave = await turns.take(wholeMs, signal);
      try {
        const makeTry = (tryMs: number) => transport.unary(method, signal, tryMs, ...rest);
        const plan = { ...options, endsAt, mayRepeat: mayRepeat(method) };
        return await breaker.run(
          () => tryRepeatedly(makeTry, plan, budget, signal),
          (outcome) => verdictOf(outcome, signal),
        );
      } finally {
        leave();
      }
    },
    async stream(...call) {
      breaker.check();
      return transport.stream(...call);
    },
  };
}

/** Whether an error says that the peer, or the way to it, is in trouble. What a peer answers to the question itself never is. */
function isTransient(error: unknown): boolean {
  const { code, isWireError } = ConnectError.from(error);
  if (code === Code.ResourceExhausted) return isWireError && EXHAUSTED_PEER.includes(reasonOf(error));
  return TRANSIENT.has(code);
}

/** A caller who has left does not know how the call would have ended. */
function verdictOf(outcome: PromiseSettledResult<unknown>, signal: AbortSignal | undefined): Verdict {
  if (outcome.status === "fulfilled") return "answered";
  if (signal?.aborted) return "nothing";
  return isTransient(outcome.reason) ? "failed" : "answered";
}

function mayRepeat({ idempotency }: DescMethod): boolean {
  return idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN;
}

type Plan = Pick<MakeResilientOptions, "attemptTimeoutMs" | "retry" | "clock"> & { endsAt: number; mayRepeat: boolean };

async function tryRepeatedly<Answer>(
  makeTry: (tryMs: number) => Promise<Answer>,
  { endsAt, attemptTimeoutMs, retry, clock, mayRepeat }: Plan,
  budget: RetryBudget,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  budget.earn();
  for (let attempt = 1; ; attempt++) {
    const leftMs = endsAt - clock.monotonic();
    const isLast = !mayRepeat || attempt >= retry.attempts;
    try {
      const tryMs = isLast ? leftMs : Math.min(leftMs, attemptTimeoutMs);
      // Connect takes 0 for no deadline.
      return await makeTry(Math.max(1, Math.ceil(tryMs)));
    } catch (error) {
      if (isLast || signal?.aborted) throw error;
      const waitMs = waitBefore(attempt, error, retry);
      if (waitMs === undefined || clock.monotonic() + waitMs >= endsAt || !budget.spend()) throw error;
      await pause(waitMs, signal);
    }
  }
}

/** How long to wait before a try like the one that ended so; undefined if there is to be none. */
function waitBefore(
  attempt: number,
  error: unknown,
  { firstMs, maxMs }: ResilienceOptions["retry"],
): number | undefined {
  const { code } = ConnectError.from(error);
  const toldMs = toldDelayMs(error);
  const isRetried = code === Code.Unavailable || code === Code.DeadlineExceeded;
  if (!isRetried && !(code === Code.ResourceExhausted && toldMs !== undefined)) return undefined;
  const longestMs = Math.min(maxMs, firstMs * 2 ** attempt);
  // Beside what the peer asked for, or all whom it told the same would come back together.
  return (toldMs ?? 0) + firstMs + Math.random() * (longestMs - firstMs);
}

interface RetryBudget {
  /** A call has begun. */
  earn(): void;
  /** Whether there may be a retry now, which is then taken as made. */
  spend(): boolean;
}

/** A bucket into which each call puts part of a retry. */
function createRetryBudget(perCall: number): RetryBudget {
  let saved = BUDGET_BURST;
  return {
    earn() {
      saved = Math.min(BUDGET_BURST, saved + perCall);
    },
    spend() {
      if (saved < 1) return false;
      saved -= 1;
      return true;
    },
  };
}
