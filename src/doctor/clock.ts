/**
 * Clocks: tokens, leases and session checks compare the time of processes with that of databases and of each other. A
 * difference counts only as far as the time that asking took cannot explain it.
 */
import { aheadMs, type Clock } from "../clock.ts";
import { TOLERANCE_SECONDS } from "../token/compact.ts";
import { asRole } from "./database.ts";
import { type Check, type DoctorContext, type Finding, ok, unfit, warning } from "./finding.ts";

const NOTABLE_MS = 1_000;

export function clockChecks({ definitions, services, clock }: DoctorContext): Check[] {
  const stored = definitions.filter(({ hasDatabase }) => hasDatabase);
  return stored.map(({ name }) => ({
    what: `${name} database clock`,
    // Why a database cannot be asked is said by the check of the database.
    run: () => compare(services[name]!.databaseUrl!, clock).catch(() => []),
  }));
}

function compare(url: string, clock: Clock): Promise<Finding[]> {
  return asRole(url, async (sql) => {
    await sql`select 1`; // connects
    const askedAt = clock.now();
    const [row] = await sql<{ ms: number }[]>`select extract(epoch from clock_timestamp())::float8 * 1000 as ms`;
    return clockFindings(row!.ms, { askedAt, answeredAt: clock.now() });
  });
}

/** What another clock's time says that was read between these two moments of ours. */
export function clockFindings(theirs: number, moments: { askedAt: number; answeredAt: number }): Finding[] {
  const theyAreAheadMs = aheadMs(theirs, moments);
  const differenceMs = Math.abs(theyAreAheadMs);
  if (differenceMs <= NOTABLE_MS) return [ok("agrees with ours")];
  const finding = `${(differenceMs / 1_000).toFixed(1)} s ${theyAreAheadMs > 0 ? "ahead of" : "behind"} ours`;
  const remedy = "let NTP set the clocks of both machines";
  return [differenceMs > TOLERANCE_SECONDS * 1_000 ? unfit(finding, remedy) : warning(finding, remedy)];
}
