/**
 * The ends of a stream that neither the client nor the handler chooses: the process stops, the access token that opened it
 * expires, the session behind the token ends, or the permission that it took is gone. Its longest life is its deadline
 * (deadline.ts).
 */
import type { Clock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import type { NodeResponse } from "../listener/listener.ts";
import type { AccessClaims } from "../token/access-token.ts";
import { authStale } from "../token/session-check.ts";
import type { AccessRule } from "./access.ts";
import { type Authentication, requirePermission, unauthenticated } from "./authenticate.ts";
import type { Call } from "./call.ts";
import { onceClosed } from "./early-answer.ts";

/** An open stream of a person. */
interface PersonalStream {
  call: Call;
  claims: AccessClaims;
  rule: AccessRule & { who: "user" | "permission" };
  authentication: Authentication;
  end: AbortController;
  isBeingChecked: boolean;
}

/** Between two looks at the sessions of open streams. */
const CHECK_MS = 250;
/**
 * A stream goes on while its session is asked about, which a new call does not: so it is asked that much before anybody would
 * have to be refused. A question takes a second at most, and is asked a look late.
 */
const LEAD_MS = 1_500;

/** Every stream that is open, to be ended together. */
export class OpenStreams {
  readonly #ends = new Set<AbortController>();
  readonly #personal = new Set<PersonalStream>();
  readonly #stopping: AbortSignal;
  readonly #clock: Clock;
  /** One for all of them, and only while there are any. */
  #checking: NodeJS.Timeout | undefined;

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
    let leave: (() => void) | undefined;
    call.onAdmitted = (rule, authentication) => {
      const { claims } = call;
      if ((rule.who !== "user" && rule.who !== "permission") || !claims) return;
      leave = this.#watch({ call, claims, rule, authentication, end, isBeingChecked: false });
    };
    onceClosed(response, () => {
      leave?.();
      this.#ends.delete(end);
    });
    return AbortSignal.any([signal, end.signal]);
  }

  /** Ends a person's stream with its token and with its session. Returns what stops that. */
  #watch(stream: PersonalStream): () => void {
    const { claims, authentication, end } = stream;
    const leftMs = Math.max(0, claims.expiresAt * 1_000 - this.#clock.now());
    const expiry = setTimeout(() => end.abort(tokenExpired()), leftMs);
    const stopListening = authentication.onSessionEnded?.(claims.sessionId, () => endWithSession(stream));
    this.#personal.add(stream);
    this.#checking ??= setInterval(() => this.#personal.forEach(checkAgain), CHECK_MS);
    return () => {
      clearTimeout(expiry);
      stopListening?.();
      this.#personal.delete(stream);
      if (this.#personal.size > 0) return;
      clearInterval(this.#checking);
      this.#checking = undefined;
    };
  }
}

/** As for a new call: a session that nobody can tell about ends the stream, too, unless its method goes on. */
function checkAgain(stream: PersonalStream): void {
  const { authentication, claims, rule, end } = stream;
  if (end.signal.aborted) return;
  if (rule.who === "permission") {
    requirePermission(authentication, rule, stream.call).catch((error: unknown) => end.abort(error));
  }
  if (stream.isBeingChecked) {
    endUnlessFresh(stream, authStale());
    return;
  }
  const live = authentication.checkSession(claims, rule.whenStale, LEAD_MS);
  if (live === true) return;
  stream.isBeingChecked = true;
  Promise.resolve(live)
    .then((isLive) => isLive || endWithSession(stream))
    .catch((error: unknown) => endUnlessFresh(stream, error))
    .finally(() => {
      stream.isBeingChecked = false;
    });
}

/** A new call would have to wait for an answer by now: a stream of a method that fails closed does not go on meanwhile. */
function endUnlessFresh({ authentication, claims, rule, end }: PersonalStream, error: unknown): void {
  if (rule.whenStale !== "closed") return;
  const live = authentication.checkSession(claims, rule.whenStale);
  if (live === true) return;
  // It shares the question that is on its way.
  Promise.resolve(live).catch(() => {});
  end.abort(error);
}

function endWithSession({ end, call }: PersonalStream): void {
  if (!end.signal.aborted) end.abort(unauthenticated(call, "session_ended"));
}

function tokenExpired() {
  return fail(Code.Unauthenticated, "TOKEN_EXPIRED", "the access token has expired");
}
