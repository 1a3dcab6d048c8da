/** Methods that a token alone is not enough for: their caller must have logged in a moment ago. */
import type { HandlerContext } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import { Code, fail } from "../errors.ts";
import { callOf } from "./call.ts";

const LONGEST_AGO_MS = 5 * 60_000;

/** Refuses a person who logged in more than five minutes ago; a refresh is no login. UNAUTHENTICATED / REAUTHENTICATE. */
export function requireRecentLogin(context: HandlerContext, clock: Clock): void {
  const { claims } = callOf(context.values);
  if (!claims) throw new Error("a method for people was reached by somebody else");
  if (clock.now() - claims.authenticatedAt * 1_000 <= LONGEST_AGO_MS) return;
  throw fail(Code.Unauthenticated, "REAUTHENTICATE", "log in again to do this");
}
