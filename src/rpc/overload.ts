/**
 * What keeps a process from taking on more than it can do: a bound on the calls of one address in a time, and bounds on the
 * unary calls that a listener works on at once and on the bytes of their bodies. Whoever is refused is told at once and when
 * to try again.
 */
import type { ConnectError } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import type { Clock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import { addressGroup } from "../listener/address.ts";

/** Callers that are remembered; a forgotten one starts anew, so an attacker gains one burst by 100,000 addresses. */
export const MOST_REMEMBERED = 100_000;
const BURST_SECONDS = 2;
const SMALL_BODY_BYTES = 64 * 1_024;

/** Answers whether one more call of this address is one too many. */
export type RateLimit = (address: string) => ConnectError | undefined;

/**
 * Makes a limit of `perSecond` calls for each address (IPv6: each /64), with bursts of twice as many; 0 is no limit.
 */
export function createRateLimit(
  perSecond: number,
  clock: Clock,
  paceOf = (limits: PaceLimits) => createPace(limits, clock),
): RateLimit {
  if (perSecond === 0) return () => undefined;
  const pace = paceOf({ costMs: 1_000 / perSecond, burstMs: BURST_SECONDS * 1_000 });
  return (address) => {
    const retryAfterMs = pace(addressGroup(address));
    if (retryAfterMs === 0) return undefined;
    return fail(Code.ResourceExhausted, "RATE_LIMITED", "too many calls from this address", { retryAfterMs });
  };
}

/** Milliseconds that somebody has to wait until one more call is not one too many; 0 if it is none, and then it counts. */
export type Pace = (who: string) => number;

export interface PaceLimits {
  costMs: number;
  burstMs: number;
}

/**
 * Makes the pace of one call in `costMs`, and of as many at once as `burstMs` pays for. It keeps one number for each: the time at which
 * the calls so far would be paid off (the generic cell rate algorithm).
 */
export function createPace(
  { costMs, burstMs }: PaceLimits,
  clock: Clock,
  paidOffAt = new LRUCache<string, number>({ max: MOST_REMEMBERED }),
): Pace {
  return (who) => {
    const now = clock.monotonic();
    const next = Math.max(paidOffAt.get(who) ?? now, now) + costMs;
    if (next - now > burstMs) return Math.ceil(next - now - burstMs);
    paidOffAt.set(who, next);
    return 0;
  };
}

/** The unary calls that a listener works on at once. */
export class Load {
  readonly #most: number;
  readonly #mostPerAddress: number;
  readonly #callsOf = new Map<string, number>();
  #calls = 0;

  /** One address (IPv6: one /64) gets no more than its share, or it could take every place by never sending its bodies. */
  constructor(most: number, mostPerAddress: number) {
    this.#most = most;
    this.#mostPerAddress = mostPerAddress;
  }

  get calls(): number {
    return this.#calls;
  }

  get isFull(): boolean {
    return this.#calls >= this.#most;
  }

  /**
   * Takes a place, to be given back by leave(). Throws UNAVAILABLE / OVERLOADED when there is none, and RESOURCE_EXHAUSTED /
   * RATE_LIMITED when the address has its share.
   */
  enter(address: string): void {
    if (this.isFull) throw overloaded();
    const group = addressGroup(address);
    const calls = this.#callsOf.get(group) ?? 0;
    if (calls >= this.#mostPerAddress) {
      const message = "too many calls at once from this address";
      throw fail(Code.ResourceExhausted, "RATE_LIMITED", message, { retryAfterMs: 1_000 });
    }
    this.#callsOf.set(group, calls + 1);
    this.#calls++;
  }

  leave(address: string): void {
    const group = addressGroup(address);
    const calls = this.#callsOf.get(group)!;
    if (calls === 1) this.#callsOf.delete(group);
    else this.#callsOf.set(group, calls - 1);
    this.#calls--;
  }
}

/** What a call holds of a BodyMemory. */
export interface HeldBody {
  heldBytes: number;
  /** Nothing would be given back any more. */
  isOver?: boolean;
}

/**
 * The memory that a listener has for the bodies of unary calls, which may be as large as 50 MiB and need not ever end. Small ones
 * are not counted: the number of calls bounds them.
 */
export class BodyMemory {
  #leftBytes: number;

  constructor(mostBytes: number) {
    this.#leftBytes = mostBytes;
  }

  /** Notes how long a body has become. Returns RESOURCE_EXHAUSTED / OVERLOADED if that is too much, until others are over. */
  hold(call: HeldBody, bodyBytes: number): ConnectError | undefined {
    if (bodyBytes <= SMALL_BODY_BYTES || call.isOver) return undefined;
    const moreBytes = bodyBytes - call.heldBytes;
    if (moreBytes > this.#leftBytes) {
      const message = "the server has too many large messages to read";
      return fail(Code.ResourceExhausted, "OVERLOADED", message, { retryAfterMs: 1_000 });
    }
    this.#leftBytes -= moreBytes;
    call.heldBytes = bodyBytes;
    return undefined;
  }

  giveBack(call: HeldBody): void {
    this.#leftBytes += call.heldBytes;
    call.heldBytes = 0;
  }
}

export function overloaded(): ConnectError {
  return fail(Code.Unavailable, "OVERLOADED", "the server has too much to do", { retryAfterMs: 1_000 });
}
