/**
 * Whether the session behind an access token may still be used. auth answers from its own database; the other services
 * follow the sessions that end (freshness.ts), and ask auth when they have lost track. No answer is never "yes" and never
 * "no": it is UNAVAILABLE / AUTH_STALE.
 */
import type { ConnectError } from "@connectrpc/connect";
import { Code, fail } from "../errors.ts";
import type { AccessClaims } from "./access-token.ts";

/** An answer that takes longer is about a time that is over. */
const QUESTION_TIMEOUT_MS = 1_000;

/** Asks once: may the session be used, which started with this generation? */
export type SessionQuestion = (sessionId: string, generation: number, signal: AbortSignal) => Promise<boolean>;

/**
 * What becomes of a call while nobody can tell whether its session lives: it is refused, or it goes on until the token
 * expires, where the installation allows that.
 */
export type WhenStale = "closed" | "until_expiry";

/**
 * Answers true while the session may be used. Rejects with AUTH_STALE when nobody can tell; never throws. With `leadMs` it counts
 * what is known as that much older than it is.
 */
export type SessionCheck = (claims: AccessClaims, whenStale: WhenStale, leadMs?: number) => boolean | Promise<boolean>;

/** Makes a check that asks `ask` every time, sharing one question among the calls that wait for the same session. */
export function createSessionCheck(ask: SessionQuestion): (claims: AccessClaims) => Promise<boolean> {
  const asking = new Map<string, Promise<boolean>>();
  return ({ sessionId, generation }) => {
    const name = `${sessionId}/${generation}`;
    const running = asking.get(name);
    if (running) return running;
    const answer = ask(sessionId, generation, AbortSignal.timeout(QUESTION_TIMEOUT_MS))
      .catch((cause: unknown) => {
        throw authStale(cause);
      })
      .finally(() => asking.delete(name));
    asking.set(name, answer);
    return answer;
  };
}

/** The refusal where nobody can tell whether a session lives. */
export function authStale(cause?: unknown): ConnectError {
  return fail(Code.Unavailable, "AUTH_STALE", "the session could not be checked", { cause, retryAfterMs: 1_000 });
}
