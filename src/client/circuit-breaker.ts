/**
 * The circuit breaker of one peer: after some failures in a row it refuses calls at once instead of letting each of them wait, and
 * after a while lets exactly one through, by which it closes or opens again. cockatiel keeps the state; what is decided here is which
 * outcome counts, by whose clock time passes, and that nobody queues behind the probe.
 */
import {
  type CircuitBreakerPolicy,
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  type IBackoff,
  type IHalfOpenAfterBackoffContext,
} from "cockatiel";
import type { Clock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import type { SimpleLog } from "../simple-log.ts";

export type BreakerState = "closed" | "open" | "half-open";

/** What the end of a call says of its peer: it is there, it is not, or nothing. */
export type Verdict = "answered" | "failed" | "nothing";

export interface BreakerOptions {
  /** Of the peer, for the log. */
  name: string;
  /** In a row. */
  failures: number;
  /** How long calls are refused before one is let through. */
  openMs: number;
  clock: Clock;
  log: SimpleLog;
}

const NAMES = ["closed", "open", "half-open"] as const satisfies BreakerState[];
/** When to come again while a probe is under way. */
const PROBE_RETRY_MS = 100;

/** A call that has ended, thrown so that cockatiel takes it for no success. */
class Ended {
  readonly outcome: PromiseSettledResult<unknown>;
  readonly verdict: Exclude<Verdict, "answered">;
  readonly wasProbe: boolean;

  constructor(outcome: PromiseSettledResult<unknown>, verdict: Ended["verdict"], wasProbe: boolean) {
    this.outcome = outcome;
    this.verdict = verdict;
    this.wasProbe = wasProbe;
  }
}

export class CircuitBreaker {
  readonly #policy: CircuitBreakerPolicy;
  readonly #options: BreakerOptions;
  /** Changes of state so far. A call that began before the last one tells of another time, and counts for nothing. */
  #changes = 0;
  #openUntilMs = 0;

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.#policy = circuitBreaker(
      // Of a probe, cockatiel would take for a success what is not handled here.
      handleWhen((thrown: unknown) => thrown instanceof Ended && (thrown.verdict === "failed" || thrown.wasProbe)),
      { breaker: new ConsecutiveBreaker(options.failures), halfOpenAfter: { next: (context) => this.#open(context) } },
    );
    this.#policy.onStateChange((state) => this.#changed(state));
  }

  /** Stays "open" until a call comes for which it becomes "half-open". */
  get state(): BreakerState {
    return NAMES[this.#policy.state as 0 | 1 | 2];
  }

  /** Throws UNAVAILABLE / CIRCUIT_OPEN where a call would be refused. Changes nothing. */
  check(): void {
    const { state } = this.#policy;
    if (state === CircuitState.HalfOpen || (state === CircuitState.Open && !this.#isDue())) throw this.#refusal();
  }

  /** Makes a call, unless it is refused, and settles as it does. */
  async run<Answer>(
    call: () => Promise<Answer>,
    judge: (outcome: PromiseSettledResult<Answer>) => Verdict,
  ): Promise<Answer> {
    this.check();
    return resultOf<Answer>(
      await this.#policy.execute(() => this.#watch(call, judge)).catch((thrown) => this.#ended(thrown)),
    );
  }

  /** Resolves for what counts as a success. */
  async #watch<Answer>(
    call: () => Promise<Answer>,
    judge: (outcome: PromiseSettledResult<Answer>) => Verdict,
  ): Promise<PromiseSettledResult<Answer>> {
    const begunAt = this.#changes;
    const isProbe = this.#policy.state === CircuitState.HalfOpen;
    const [outcome] = await Promise.allSettled([call()]);
    const verdict = begunAt === this.#changes ? judge(outcome) : "nothing";
    if (verdict === "answered") return outcome;
    throw new Ended(outcome, verdict, isProbe);
  }

  #ended(thrown: unknown): PromiseSettledResult<unknown> {
    if (thrown instanceof Ended) return thrown.outcome;
    throw this.#refusal();
  }

  /**
   * What cockatiel calls a backoff. It goes by Date.now(), so we leave it nothing to count: it is over or not. A probe that told nothing
   * leaves everything as it was, and the next call may try.
   */
  #open({ result }: IHalfOpenAfterBackoffContext): IBackoff<IHalfOpenAfterBackoffContext> {
    const { clock, openMs } = this.#options;
    const hasFailed = "error" in result && (result.error as unknown as Ended).verdict === "failed";
    this.#openUntilMs = clock.monotonic() + (hasFailed ? openMs : 0);
    const isDue = () => this.#isDue();
    return {
      get duration() {
        return isDue() ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
      },
      next: (context) => this.#open(context),
    };
  }

  #isDue(): boolean {
    return this.#options.clock.monotonic() >= this.#openUntilMs;
  }

  #changed(state: CircuitState): void {
    this.#changes++;
    const { name, log, failures, openMs } = this.#options;
    if (state === CircuitState.Open)
      log.warn({ peer: name, failures, openMs }, "circuit open: calls are refused at once");
    else if (state === CircuitState.HalfOpen) log.info({ peer: name }, "circuit half-open: one call is tried");
    else log.info({ peer: name }, "circuit closed: the peer answers again");
  }

  #refusal() {
    const retryAfterMs = Math.max(this.#openUntilMs - this.#options.clock.monotonic(), PROBE_RETRY_MS);
    return fail(Code.Unavailable, "CIRCUIT_OPEN", "a service has failed repeatedly and is given time", {
      retryAfterMs,
    });
  }
}

function resultOf<Answer>(outcome: PromiseSettledResult<unknown>): Answer {
  if (outcome.status === "rejected") throw outcome.reason;
  return outcome.value as Answer;
}
