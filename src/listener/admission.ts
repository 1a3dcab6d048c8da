/**
 * Who may connect: so many connections of one address at a time, and none while the address is barred because a connection
 * of it flooded us: to take in its next one would cost more than to refuse it. Only what no honest client does bars an
 * address, since everybody behind it pays for it. An address here is one as address.ts groups them.
 */
import { LRUCache } from "lru-cache";
import type { Clock } from "../clock.ts";
import type { ListenerLimits } from "./limits.ts";

/** Barred addresses that are remembered; with more of them flooding, the first are let in again too early. */
const REMEMBERED_ADDRESSES = 10_000;

export class Admission {
  readonly #limits: Pick<ListenerLimits, "connectionsPerAddress" | "floodPenaltyMs">;
  readonly #clock: Clock;
  readonly #open = new Map<string, number>();
  readonly #barredUntil = new LRUCache<string, number>({ max: REMEMBERED_ADDRESSES });

  constructor(limits: Pick<ListenerLimits, "connectionsPerAddress" | "floodPenaltyMs">, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Counts a connection until leave(); false when there must not be one more. */
  enter(group: string): boolean {
    const others = this.#open.get(group) ?? 0;
    if (others >= this.#limits.connectionsPerAddress || this.#isBarred(group)) return false;
    this.#open.set(group, others + 1);
    return true;
  }

  leave(group: string): void {
    const left = this.#open.get(group)! - 1;
    if (left === 0) this.#open.delete(group);
    else this.#open.set(group, left);
  }

  /** Keeps an address out for a while; false when it is already, or when nobody is to be. */
  bar(group: string): boolean {
    if (this.#limits.floodPenaltyMs === 0 || this.#isBarred(group)) return false;
    this.#barredUntil.set(group, this.#clock.monotonic() + this.#limits.floodPenaltyMs);
    return true;
  }

  #isBarred(group: string): boolean {
    if (this.#barredUntil.size === 0) return false;
    const until = this.#barredUntil.get(group);
    if (until === undefined) return false;
    if (this.#clock.monotonic() < until) return true;
    this.#barredUntil.delete(group);
    return false;
  }
}
