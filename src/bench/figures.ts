/** Figures of benchmarks and proofs, and the lines that they print: one form for all, so that a script can read them. */
import { availableParallelism, cpus, loadavg } from "node:os";

/** The value below which this share (0 to 1) of the values lies; of none, 0. */
export function quantile(values: ArrayLike<number>, share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

export function median(values: ArrayLike<number>): number {
  return (quantile(values, 0.5) + quantile(values, 0.499_999)) / 2;
}

/** What the figures were taken on. */
export function machineLine(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown";
  const lastMinute = loadavg()[0]!.toFixed(1);
  return `machine: ${availableParallelism()} cores, ${model}, Node ${process.versions.node}, load average ${lastMinute}`;
}

/** One goal: a ratio, whose `what` names the two sides, or a value must be at most (or at least) the bound. */
export type Goal = { what: string; bound: number; better: "lower" | "higher" } & (
  | { ratio: number }
  | { value: number }
);

/** What is no number is short of any bound. */
export function isReached(goal: Goal): boolean {
  const figure = "ratio" in goal ? goal.ratio : goal.value;
  return goal.better === "lower" ? figure <= goal.bound : figure >= goal.bound;
}

export function goalLine(id: string, goal: Goal): string {
  const figure = "ratio" in goal ? `ratio=${rounded(goal.ratio)}` : `value=${rounded(goal.value)}`;
  return `goal ${id} ${goal.what} ${figure} bound=${rounded(goal.bound)} ${isReached(goal) ? "ok" : "short"}`;
}

export function infoLine(id: string, what: string, ratio: number): string {
  return `info ${id} ${what} ratio=${rounded(ratio)}`;
}

function rounded(figure: number): number {
  return Math.round(figure * 1000) / 1000;
}
