/**
 * Waiting for what no event tells, such as a row in another process's database: looks again and again, with a bound that is
 * there to name what did not happen, and not to measure how fast it does.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";

const PATIENCE_MS = 10_000;
const POLL_MS = 10;

type Nothing = false | null | undefined;

/** Looks until it finds something, and resolves to that. After `patienceMs` it fails, saying `what` was waited for. */
export async function until<Found>(
  what: string,
  look: () => Promise<Found> | Found,
  patienceMs = PATIENCE_MS,
): Promise<Exclude<Found, Nothing>> {
  const limit = AbortSignal.timeout(patienceMs);
  for (;;) {
    const found = await look();
    if (found !== false && found !== null && found !== undefined) return found as Exclude<Found, Nothing>;
    assert.ok(!limit.aborted, `waited ${patienceMs} ms in vain for: ${what}`);
    await delay(POLL_MS);
  }
}
