/** What verifiers answered, set against when sessions were ended: how long somebody was let in, and what was said instead. */
import { quantile } from "../bench/figures.ts";
import type { Revocation } from "./auth-sessions.ts";
import type { Goals } from "./figures.ts";
import type { Report, Run } from "./revocation-verifier.ts";

/** Past this, nobody is let in. */
const CLOSED_MS = 5_000;
/** Past this, the caller knows. */
const TOLD_MS = 6_000;
const HEALTHY_P99_MS = 100;
const HEALTHY_WORST_MS = 1_000;
const RECOVERED_MS = 5_000;
const VERIFICATIONS = 100_000;

export interface Trial {
  name: string;
  /** By session; undefined: it lives. */
  revocations: (Revocation | undefined)[];
  /** By verifier. */
  reports: Report[];
}

export interface FaultTrial extends Trial {
  overMs: number;
  /** Verifiers that the fault keeps from hearing of anything, and one that stands still. */
  cutOff: number[];
  stopped: number | undefined;
}

/** What one verifier made of one session that was ended. Times count from Logout's answer. */
interface Observation {
  verifier: number;
  /** How long it was let in. */
  closedMs: number;
  /** The same, from when Logout was sent: the end lies between the two. */
  closedFromSentMs: number;
  /** When it was first UNAUTHENTICATED. */
  refusedMs: number;
  refusedFromSentMs: number;
  /** When it was first not let in, which is when the caller was told. */
  toldMs: number;
  cameBack: boolean;
}

export function judgeHealth(goals: Goals, trial: Trial, verifications: number, questions: number): void {
  const seen = observationsOf(trial);
  const name = (what: string) => `R-CON-02 ${trial.name}: ${what}`;
  const ms = seen.map(({ refusedMs }) => refusedMs);
  const fromSent = seen.map(({ refusedFromSentMs }) => refusedFromSentMs);
  const describe = (values: number[]) =>
    [0.5, 0.99, 1].map((share) => `${share === 1 ? "worst" : `p${share * 100}`} ${quantile(values, share).toFixed(1)}`);
  goals.info(`${name(`${seen.length} observations, ms`)} from the answer of Logout: ${describe(ms).join(" ")}`);
  goals.info(`${name(`${seen.length} observations, ms`)} from the call of Logout: ${describe(fromSent).join(" ")}`);
  const turnsMs = trial.reports.map(({ turnMs }) => turnMs.toFixed(1));
  goals.info(`${name("a verifier's turn, ms, p99")} ${turnsMs.join(" ")}`);
  goals.atMost(name("logout to refusal p99 ms"), quantile(ms, 0.99), HEALTHY_P99_MS);
  goals.atMost(name("logout to refusal worst ms"), quantile(ms, 1), HEALTHY_WORST_MS);
  judgeErrors(goals, name, trial, seen);
  goals.atLeast(name("verifications"), verifications, VERIFICATIONS);
  goals.atMost(name("verification RPCs"), questions, 0);
}

/** Ends of other kinds: as logouts, where all is well. */
export function judgeEnds(goals: Goals, trial: Trial): void {
  const seen = observationsOf(trial);
  const name = (what: string) => `R-CON-02 ${trial.name}: ${what}`;
  const ms = seen.map(({ refusedMs }) => refusedMs);
  goals.info(`${name(`${seen.length} observations, ms`)} p50 ${quantile(ms, 0.5).toFixed(1)}`);
  goals.atMost(name("to refusal p99 ms"), quantile(ms, 0.99), HEALTHY_P99_MS);
  goals.atMost(name("to refusal worst ms"), quantile(ms, 1), HEALTHY_WORST_MS);
  judgeErrors(goals, name, trial, seen);
}

export function judgeFault(goals: Goals, trial: FaultTrial): void {
  const seen = observationsOf(trial);
  const name = (what: string) => `R-CON-02 ${trial.name}: ${what}`;
  const worst = (values: number[]) => Math.max(0, ...values);
  goals.atMost(name("logout to closed worst ms"), worst(seen.map(({ closedMs }) => closedMs)), CLOSED_MS);
  goals.info(
    `${name("logout to closed, from its call, worst ms")} ${worst(seen.map((s) => s.closedFromSentMs)).toFixed(0)}`,
  );
  goals.atMost(name("accepted past 5 s"), seen.filter(({ closedMs }) => closedMs >= CLOSED_MS).length, 0);
  const awake = seen.filter(({ verifier }) => verifier !== trial.stopped);
  goals.atMost(`S-REF-16 ${trial.name}: told worst ms`, worst(awake.map(({ toldMs }) => toldMs)), TOLD_MS);
  const others = awake.filter(({ verifier }) => !trial.cutOff.includes(verifier));
  if (others.length > 0) {
    goals.atMost(name("others refuse, worst ms"), worst(others.map(({ refusedMs }) => refusedMs)), HEALTHY_WORST_MS);
  }
  judgeErrors(goals, name, trial, seen);
  // Else the fault was none.
  const toBeStale = trial.cutOff.filter((verifier) => verifier !== trial.stopped);
  if (toBeStale.length > 0) {
    const stale = toBeStale.filter((verifier) => liveRuns(trial, verifier).every(hasStale)).length;
    goals.atLeast(`S-REF-16 ${trial.name}: verifiers that said AUTH_STALE of live sessions`, stale, toBeStale.length);
  }
  goals.atMost(name("recovered after ms"), recoveredMs(trial), RECOVERED_MS);
}

/** Whether every session has got the answer that it must end with. */
export function isSettled({ revocations, reports }: Trial): boolean {
  return reports.every(({ runs }) =>
    revocations.every((revocation, session) => runs[session]!.at(-1)?.answer === (revocation ? "refused" : "accepted")),
  );
}

function judgeErrors(goals: Goals, name: (what: string) => string, trial: Trial, seen: Observation[]): void {
  const early = trial.reports.flatMap(({ runs }) =>
    runs.filter((ofSession, session) => {
      const endedMs = trial.revocations[session]?.sentMs ?? Number.POSITIVE_INFINITY;
      return ofSession.some(({ answer, fromMs }) => answer === "refused" && fromMs < endedMs);
    }),
  );
  goals.atMost(name("live sessions UNAUTHENTICATED"), early.length, 0);
  goals.atMost(name("accepted again after a refusal"), seen.filter(({ cameBack }) => cameBack).length, 0);
  const failures = trial.reports.flatMap(({ failures }) => failures);
  goals.atMost(name("answers that are neither"), failures.length, 0, failures.slice(0, 3).join("; "));
}

function observationsOf({ revocations, reports }: Trial): Observation[] {
  return reports.flatMap(({ runs }, verifier) =>
    revocations.flatMap((revocation, session) =>
      revocation ? [{ verifier, ...observationOf(runs[session]!, revocation) }] : [],
    ),
  );
}

/** Never closed or never told is an endless time, which meets no goal. */
function observationOf(runs: Run[], { sentMs, answeredMs }: Revocation): Omit<Observation, "verifier"> {
  const accepted = runs.filter(({ answer }) => answer === "accepted");
  const isOpen = runs.length === 0 || runs.at(-1)!.answer === "accepted";
  const lastMs = isOpen ? Number.POSITIVE_INFINITY : (accepted.at(-1)?.toMs ?? 0);
  const refused = runs.find(({ answer }) => answer === "refused");
  const told = runs.find((run) => run.answer !== "accepted" && (run.toMs >= answeredMs || run === runs.at(-1)));
  const since = (atMs: number | undefined) => Math.max(0, (atMs ?? Number.POSITIVE_INFINITY) - answeredMs);
  return {
    closedMs: since(lastMs),
    closedFromSentMs: Math.max(0, lastMs - sentMs),
    refusedMs: since(refused?.fromMs),
    refusedFromSentMs: (refused?.fromMs ?? Number.POSITIVE_INFINITY) - sentMs,
    toldMs: since(told?.fromMs),
    cameBack: refused !== undefined && accepted.some(({ toMs }) => toMs > refused.fromMs),
  };
}

function liveRuns({ revocations, reports }: Trial, verifier: number): Run[][] {
  return reports[verifier]!.runs.filter((_, session) => revocations[session] === undefined);
}

function hasStale(runs: Run[]): boolean {
  return runs.some(({ answer }) => answer === "stale");
}

/** From the end of the fault until each live session was accepted by all, and stayed so. */
function recoveredMs(trial: FaultTrial): number {
  const sinceMs = trial.reports.flatMap((_, verifier) =>
    liveRuns(trial, verifier).map((runs) => {
      const last = runs.at(-1);
      return last?.answer === "accepted" ? last.fromMs : Number.POSITIVE_INFINITY;
    }),
  );
  return Math.max(0, Math.max(...sinceMs) - trial.overMs);
}
