import assert from "node:assert/strict";
import test from "node:test";
import { createClock } from "./clock.ts";

test("time for which the machine was suspended counts, and the clock never goes back", () => {
  let wallMs = 1_000_000;
  let steadyMs = 50;
  const clock = createClock(
    () => wallMs,
    () => steadyMs,
  );
  const since = (startMs: number) => clock.monotonic() - startMs;
  const start = clock.monotonic();
  wallMs += 400;
  steadyMs += 400;
  assert.equal(since(start), 400);
  // Suspended for three minutes: only the wall clock has gone on.
  wallMs += 180_000;
  assert.equal(since(start), 180_400);
  assert.equal(since(start), 180_400);
  // Corrected by a little, then set back by an hour.
  wallMs += 900;
  assert.equal(since(start), 180_400);
  wallMs -= 3_600_000;
  assert.equal(since(start), 180_400);
  wallMs += 10;
  steadyMs += 10;
  assert.equal(since(start), 180_410);
});
