/**
 * Whether the session behind an access token may still be used. auth answers from its own database; the other services ask
 * it, one question at a time per session, for at most a second. No answer is never "yes" and never "no": it is
 * UNAVAILABLE / AUTH_STALE.
 */
import { Code, fail } from "../errors.ts";
import type { AccessClaims } from "./access-token.ts";

/** Asks once: may the session be used, which started with this generation? */
export type SessionQuestion = (sessionId: string, generation: number) => Promise<boolean>;

/** Answers true while the session may be used. Rejects with AUTH_STALE when nobody can tell. */
export type SessionCheck = (claims: AccessClaims) => Promise<boolean>;

/** Makes a check that asks `ask`, sharing one question among the calls that wait for the same session. */
export function createSessionCheck(ask: SessionQuestion): SessionCheck {
  const asking = new Map<string, Promise<boolean>>();
  return ({ sessionId, generation }) => {
    const name = `${sessionId}/${generation}`;
    const running = asking.get(name);
    if (running) return running;
    const answer = ask(sessionId, generation)
      .catch((cause: unknown) => {
        throw fail(Code.Unavailable, "AUTH_STALE", "the session could not be checked", { cause, retryAfterMs: 1_000 });
      })
      .finally(() => asking.delete(name));
    asking.set(name, answer);
    return answer;
  };
}
