/**
 * What proofs say, as tables: the proofs that a Makefile names, the goals in what one of them printed, and the report of a
 * whole run. A proof that fails without saying which goal it missed, or that says nothing at all, has died.
 */

/** What a proof printed about one of its goals. */
export interface GoalResult {
  /** What is measured, with the id of its case, such as "R-KEY-01 rotations". */
  what: string;
  figure: string;
  bound: string;
  isReached: boolean;
}

/** One proof that was run. */
export interface ProofResult {
  /** Such as "rotation" of `make prove/rotation`. */
  name: string;
  goals: GoalResult[];
  /** What it drew its choices from, if it said so. */
  seed: string | undefined;
  seconds: number;
  /** Why it ended without telling whether its goals are met. */
  died: string | undefined;
}

/** How the process of a proof ended. */
export interface ProofEnd {
  exitCode: number | null;
  signal: string | null;
  seconds: number;
}

const TARGET = /^prove\/([a-z-]+):/gm;
const GOAL = /^goal \S+ (.+) (?:value|ratio)=(\S+) bound=(\S+) (ok|short)$/gm;
const SEED = /^info .*\bSEED=(\d+)/m;

/** Names of all targets `prove/<name>`, sorted. */
export function proofsOf(makefile: string): string[] {
  return [...makefile.matchAll(TARGET)].map(([, name]) => name!).sort();
}

/** The goals in what proofs printed, in their order. */
export function goalsIn(log: string): GoalResult[] {
  return [...log.matchAll(GOAL)].map(([, what, figure, bound, result]) => {
    return { what: what!, figure: figure!, bound: bound!, isReached: result === "ok" };
  });
}

export function resultOf(name: string, log: string, { exitCode, signal, seconds }: ProofEnd): ProofResult {
  const goals = goalsIn(log);
  const isExplained = goals.length > 0 && (exitCode === 0 || goals.some(({ isReached }) => !isReached));
  const died = signal ? `ended by ${signal}` : isExplained ? undefined : `exit code ${exitCode}, ${goals.length} goals`;
  return { name, goals, seed: SEED.exec(log)?.[1], seconds, died };
}

export function isProven({ goals, died }: ProofResult): boolean {
  return died === undefined && goals.every(({ isReached }) => isReached);
}

/** Markdown: a row for each goal and for each proof that died, then how long each proof took. */
export function reportOf(results: ProofResult[]): string {
  const goalRows = results.flatMap((result) => [
    ...result.goals.map(({ what, figure, bound, isReached }) =>
      rowOf([result.name, what, figure, bound, isReached ? "ok" : "**short**", result.seed ?? ""]),
    ),
    ...(result.died === undefined ? [] : [rowOf([result.name, `died: ${result.died}`, "", "", "**died**", ""])]),
  ]);
  const timeRows = results.map((result) => {
    const reached = result.goals.filter(({ isReached }) => isReached).length;
    return rowOf([result.name, `${reached} of ${result.goals.length}`, `${Math.round(result.seconds)} s`]);
  });
  return [
    ...headOf(["Proof", "What", "Figure", "Bound", "Result", "Seed"]),
    ...goalRows,
    "",
    ...headOf(["Proof", "Goals met", "Took"]),
    ...timeRows,
    "",
  ].join("\n");
}

export function headOf(titles: string[]): string[] {
  return [rowOf(titles), rowOf(titles.map(() => "---"))];
}

export function rowOf(cells: string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}
