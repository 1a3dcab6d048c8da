/** How long a service was away for its callers, beside how long its database was. */
import type { CallName, LoggedCall } from "./mixed-load.ts";

/** When the database was stopped, and when it answered again. */
export interface Outage {
  downMs: number;
  upMs: number;
}

/**
 * Milliseconds from the database's return until nothing failed any more for want of it: to the last call that was sent and
 * failed, or as long as the first good answer took since somebody asked, if that is more; until then nobody would have noticed. 0
 * where nothing failed. What ended after the next outage began is not of this one.
 */
export function recoveryMs(calls: LoggedCall[], { downMs, upMs }: Outage, untilMs = Number.POSITIVE_INFINITY): number {
  const mine = calls.filter(({ endedMs }) => endedMs >= downMs && endedMs < untilMs);
  const failed = failuresOf(mine);
  if (failed.length === 0) return 0;
  const lastFailed = Math.max(...failed.map(({ sentMs }) => sentMs));
  const asked = mine.filter(({ sentMs }) => sentMs >= upMs);
  const firstAsked = Math.min(...asked.map(({ sentMs }) => sentMs));
  const firstGood = Math.min(...asked.filter(({ outcome }) => outcome === "ok").map(({ endedMs }) => endedMs));
  const waited = asked.length === 0 ? 0 : firstGood - firstAsked;
  return Math.max(0, lastFailed - upMs, waited);
}

/** Those that failed although the database was there from a moment before they were sent until they ended. */
export function failedWithoutOutage(calls: LoggedCall[], outages: Outage[], marginMs: number): LoggedCall[] {
  return failuresOf(calls).filter(({ sentMs, endedMs }) => {
    return outages.every(({ downMs, upMs }) => endedMs < downMs || sentMs > upMs + marginMs);
  });
}

export function failuresOf(calls: LoggedCall[]): LoggedCall[] {
  return calls.filter(({ outcome }) => outcome !== "ok");
}

/** Calls of one name. */
export function callsOf(calls: LoggedCall[], name: CallName): LoggedCall[] {
  return calls.filter((call) => call.name === name);
}

/** Outcomes with how often each was, the most frequent first. */
export function countOutcomes(calls: LoggedCall[]): string {
  const counts = new Map<string, number>();
  for (const { name, outcome } of calls) {
    const what = `${name} ${outcome}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  const sorted = [...counts].sort(([, first], [, second]) => second - first);
  return sorted.map(([what, count]) => `${count} ${what}`).join(", ");
}
