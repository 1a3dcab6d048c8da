/** Figures of repeated measurements, and the lines in which a proof tells them. */

/** The value below which a share of the values lies; 0 of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** A straight line through points, by least squares, with the standard error of its slope. */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): { slope: number; error: number } {
  const count = points.length;
  if (count < 3) return { slope: 0, error: Number.POSITIVE_INFINITY };
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

  /** At most the bound. */
  atMost(what: string, value: number, bound: number, raw = ""): void {
    this.#tell(what, value, `<=${bound}`, value <= bound, raw);
  }

  atLeast(what: string, value: number, bound: number, raw = ""): void {
    this.#tell(what, value, `>=${bound}`, value >= bound, raw);
  }

  /** A line that decides nothing. */
  info(text: string): void {
    process.stdout.write(`info ${this.#proof} ${text}\n`);
  }

  #tell(what: string, value: number, bound: string, isMet: boolean, raw: string): void {
    if (!isMet) this.missed++;
    const figure = `${Math.round(value * 1000) / 1000} bound=${bound} ${isMet ? "ok" : "short"}`;
    process.stdout.write(`goal ${this.#proof} ${what}=${figure}${raw && `  (${raw})`}\n`);
  }
}
