/** Figures of a benchmark, and the lines that it prints: one form for all of them, so that a script can read them. */
import { cpus, loadavg } from "node:os";

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
  const cores = cpus();
  const lastMinute = loadavg()[0]!.toFixed(1);
  return `machine: ${cores.length} cores, ${cores[0]?.model ?? "unknown"}, Node ${process.versions.node}, load average ${lastMinute}`;
}

/** One goal: `what` names the two sides, and the ratio must be at most (or at least) the bound. */
export interface Goal {
  what: string;
  ratio: number;
  bound: number;
  better: "lower" | "higher";
}

export function goalLine(id: string, { what, ratio, bound, better }: Goal): string {
  const isReached = better === "lower" ? ratio <= bound : ratio >= bound;
  return `goal ${id} ${what} ratio=${ratio.toFixed(3)} bound=${bound.toFixed(2)} ${isReached ? "ok" : "short"}`;
}

export function infoLine(id: string, what: string, ratio: number): string {
  return `info ${id} ${what} ratio=${ratio.toFixed(3)}`;
}
