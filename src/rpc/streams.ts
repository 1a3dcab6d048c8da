/**
 * The ends of a stream that neither the client nor the handler chooses: the process stops, or the access token that opened it
 * expires. Its longest life is its deadline (deadline.ts).
 */
import type { Clock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import type { NodeResponse } from "../listener/listener.ts";
import type { Call } from "./call.ts";
import { onceClosed } from "./early-answer.ts";

/** Every stream that is open, to be ended together. */
export class OpenStreams {
  readonly #ends = new Set<AbortController>();
  readonly #stopping: AbortSignal;
  readonly #clock: Clock;

  constructor(stopping: AbortSignal, clock: Clock) {
    this.#stopping = stopping;
    this.#clock = clock;
    // One listener for all of them: a signal warns of a leak when it has more than ten.
    stopping.addEventListener("abort", () => this.#ends.forEach((end) => void end.abort(stopping.reason)), {
      once: true,
    });
  }

  /** The signal that ends the stream of this call: with the client (`signal`), or by us. */
  follow(signal: AbortSignal, call: Call, response: NodeResponse): AbortSignal {
    const end = new AbortController();
    if (this.#stopping.aborted) end.abort(this.#stopping.reason);
    this.#ends.add(end);
    let expiry: NodeJS.Timeout | undefined;
    call.onAdmitted = () => {
      if (call.tokenExpiresAt === undefined) return;
      const leftMs = Math.max(0, call.tokenExpiresAt * 1_000 - this.#clock.now());
      expiry = setTimeout(() => end.abort(tokenExpired()), leftMs);
    };
    onceClosed(response, () => {
      clearTimeout(expiry);
      this.#ends.delete(end);
    });
    return AbortSignal.any([signal, end.signal]);
  }
}

function tokenExpired() {
  return fail(Code.Unauthenticated, "TOKEN_EXPIRED", "the access token has expired");
}
