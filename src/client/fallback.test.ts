/** Which errors have REST asked instead. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { systemClock } from "../clock.ts";
import { Code, dependencyUnavailable, fail } from "../errors.ts";
import { createServiceKey } from "../token/key-making.ts";
import { authStale } from "../token/session-check.ts";
import { Fallback } from "./fallback.ts";
import { createRestFallback } from "./rest.ts";

const key = createServiceKey("shop", "auth", "backend");
const rest = createRestFallback({ url: "http://127.0.0.1:1", key, clock: systemClock });
after(() => rest[Symbol.dispose]());
const fallback = new Fallback({ rest, clock: systemClock, freshMs: 4_500 });

const ANSWERS: Record<keyof typeof Code, boolean> = {
  Canceled: false,
  Unknown: false,
  InvalidArgument: false,
  DeadlineExceeded: true,
  NotFound: false,
  AlreadyExists: false,
  PermissionDenied: false,
  ResourceExhausted: false,
  FailedPrecondition: false,
  Aborted: false,
  OutOfRange: false,
  Unimplemented: false,
  Internal: false,
  Unavailable: true,
  DataLoss: false,
  Unauthenticated: false,
};
for (const [name, expected] of Object.entries(ANSWERS)) {
  test(`S-SDK-04 an answer ${name} ${expected ? "has" : "does not have"} REST asked instead`, () => {
    const answer = new ConnectError("answered", Code[name as keyof typeof Code]);
    answer.isWireError = true;
    assert.equal(fallback.replaces(answer), expected);
    assert.equal(fallback.replaces(authStale(answer)), expected, "behind AUTH_STALE");
  });
}

test("S-SDK-04 no connection, silence and an open breaker have REST asked; without REST nothing does", () => {
  const broken = dependencyUnavailable(new ConnectError("socket hang up", Code.Aborted));
  const silent = ConnectError.from(new DOMException("timed out", "TimeoutError"));
  const open = fail(Code.Unavailable, "CIRCUIT_OPEN", "a service is given time");
  const without = new Fallback({ rest: undefined, clock: systemClock, freshMs: 4_500 });
  for (const cause of [broken, silent, open, undefined]) {
    assert.equal(fallback.replaces(authStale(cause)), true);
    assert.equal(without.replaces(authStale(cause)), false);
  }
});
