/** What a proof makes of its figures: how fast something grows, and whether its goals were met. */
import { type Goal, goalLine, isReached } from "../bench/figures.ts";

/** Fewer leave the slope so uncertain that nothing could be said against it. */
const MIN_POINTS = 5;

/**
 * A straight line through points, by least squares, with the standard error of its slope. Of too few points neither is
 * known: both are NaN, which meets no goal.
 */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): { slope: number; error: number } {
  const count = points.length;
  if (count < MIN_POINTS) return { slope: Number.NaN, error: Number.NaN };
  const mean = (pick: 0 | 1) => points.reduce((sum, point) => sum + point[pick], 0) / count;
  const [meanX, meanY] = [mean(0), mean(1)];
  const spread = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const slope = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
  const rest = points.reduce((sum, [x, y]) => sum + (y - meanY - slope * (x - meanX)) ** 2, 0);
  return { slope, error: Math.sqrt(rest / (count - 2) / spread) };
}

/** Prints goals and remembers whether one was missed. */
export class Goals {
  readonly #proof: string;
  missed = 0;

  constructor(proof: string) {
    this.#proof = proof;
  }

  /** At most the bound. `raw`, where it is given, is told beside it. */
  atMost(what: string, value: number, bound: number, raw = ""): void {
    this.#tell({ what, value, bound, better: "lower" }, raw);
  }

  atLeast(what: string, value: number, bound: number, raw = ""): void {
    this.#tell({ what, value, bound, better: "higher" }, raw);
  }

  ratioAtMost(what: string, ratio: number, bound: number, raw = ""): void {
    this.#tell({ what, ratio, bound, better: "lower" }, raw);
  }

  /** A line that decides nothing. */
  info(text: string): void {
    process.stdout.write(`info ${this.#proof} ${text}\n`);
  }

  #tell(goal: Goal, raw: string): void {
    if (!isReached(goal)) this.missed++;
    process.stdout.write(`${goalLine(this.#proof, goal)}\n`);
    if (raw) this.info(`${goal.what}: ${raw}`);
  }
}
