/**
 * What is proven of the catalogue, as a page: each case with the tests that passed and the goals that were met, or why it is not
 * proven. Goes by reports of what ran; that a test names a case proves nothing.
 */
import { type Catalogue, casesOf, idsIn } from "./catalogue.ts";
import type { TestOutcome } from "./passed-tests.ts";
import { type GoalResult, headOf, type ProofResult, rowOf } from "./report.ts";

/** The report of one suite, such as `make test/engines`. */
export interface SuiteReport {
  /** Of its make target. */
  name: string;
  /** ISO, of the day. */
  date: string;
  outcomes: TestOutcome[];
}

export interface Reports {
  suites: SuiteReport[];
  proofs: ProofResult[];
  /** The files that name each case, whether they ran or not. */
  named: Map<string, string[]>;
}

export interface CoveredCase {
  id: string;
  tests: TestOutcome[];
  goals: (GoalResult & { proof: string })[];
  reason: string | undefined;
  namedIn: string[];
}

/** Of one file: others are only counted. */
const MAX_NAMES = 3;

/** Every case of the catalogue with what is said of it. */
export function coverageOf(catalogue: Catalogue, { suites, proofs, named }: Reports): CoveredCase[] {
  const covered = new Map(
    casesOf(catalogue).map((id): [string, CoveredCase] => {
      return [id, { id, tests: [], goals: [], reason: catalogue.reasons[id], namedIn: named.get(id) ?? [] }];
    }),
  );
  for (const outcome of suites.flatMap(({ outcomes }) => outcomes)) {
    for (const id of idsIn(outcome.name)) covered.get(id)?.tests.push(outcome);
  }
  for (const { name, goals } of proofs) {
    for (const goal of goals) for (const id of idsIn(goal.what)) covered.get(id)?.goals.push({ ...goal, proof: name });
  }
  return [...covered.values()];
}

/** Something ran for it, and nothing of that failed or was short. */
export function isCovered({ tests, goals }: CoveredCase): boolean {
  const results = [...tests.map(({ passed }) => passed), ...goals.map(({ isReached }) => isReached)];
  return results.length > 0 && results.every((result) => result);
}

/** Cases that are neither proven nor excused, those that are both, ids that are no case, and proofs that died. */
export function problemsOf(catalogue: Catalogue, reports: Reports): string[] {
  const known = new Set(casesOf(catalogue));
  const names = [
    ...reports.suites.flatMap(({ outcomes }) => outcomes.map(({ name }) => name)),
    ...reports.proofs.flatMap(({ goals }) => goals.map(({ what }) => what)),
  ];
  const strangers = idsIn(names.join("\n")).filter((id) => !known.has(id));
  const dead = reports.proofs.filter(({ died }) => died !== undefined);
  return [
    ...dead.map(({ name }) => `make prove/${name}: died`),
    ...strangers.map((id) => `${id}: not in the catalogue`),
    ...coverageOf(catalogue, reports).flatMap((one) => problemOf(one) ?? []),
  ];
}

function problemOf(one: CoveredCase): string | undefined {
  const { id, tests, goals, reason } = one;
  if (tests.some(({ passed }) => !passed)) return `${id}: a test failed`;
  if (goals.some(({ isReached }) => !isReached)) return `${id}: a goal is short`;
  if (isCovered(one)) return reason === undefined ? undefined : `${id}: proven, although there is a reason why not`;
  return reason === undefined ? `${id}: nothing that ran proves it, and there is no reason why not` : undefined;
}

/** The whole page, in Markdown. */
export function pageOf(catalogue: Catalogue, reports: Reports): string {
  const covered = new Map(coverageOf(catalogue, reports).map((one) => [one.id, one]));
  const proven = [...covered.values()].filter(isCovered);
  const excused = [...covered.values()].filter((one) => !isCovered(one) && one.reason !== undefined);
  const groups = Object.entries(catalogue.groups).flatMap(([title, cases]) => [
    ...["", `## ${title}`, ""],
    ...headOf(["Id", "Case", "Proven by"]),
    ...Object.entries(cases).map(([id, words]) => rowOf([id, words, evidenceOf(covered.get(id)!)])),
  ]);
  return [
    "# What is proven",
    "",
    "Made by `make coverage` from what the suites and proofs below reported; not written by hand. The cases are those of",
    "[catalogue.yaml](catalogue.yaml). Where many tests of a file prove a case, three are named.",
    "",
    `Of ${covered.size} cases ${proven.length} are proven, and of ${excused.length} it is said why not.`,
    "",
    ...headOf(["Suite", "Passed", "Failed", "On"]),
    ...reports.suites.map(suiteRow),
    "",
    ...headOf(["Proof", "Goals met", "Goals short"]),
    ...reports.proofs.map(proofRow),
    ...groups,
    "",
  ].join("\n");
}

function suiteRow({ name, date, outcomes }: SuiteReport): string {
  const passed = outcomes.filter((outcome) => outcome.passed).length;
  return rowOf([`make ${name}`, String(passed), String(outcomes.length - passed), date]);
}

function proofRow({ name, goals, died }: ProofResult): string {
  const reached = goals.filter(({ isReached }) => isReached).length;
  return rowOf([
    `make prove/${name}`,
    String(reached),
    `${goals.length - reached}${died === undefined ? "" : ", **died**"}`,
  ]);
}

function evidenceOf({ tests, goals, reason, namedIn }: CoveredCase): string {
  const files = Map.groupBy(tests, ({ file }) => file);
  const evidence = [
    ...[...files].map(([file, outcomes]) => `\`${file}\`: ${namesOf(outcomes)}`),
    ...goals.map(({ proof, what, figure, bound, isReached }) => {
      return `\`make prove/${proof}\`: ${what}: ${figure}, bound ${bound}${isReached ? "" : ", **short**"}`;
    }),
  ];
  if (evidence.length > 0) return evidence.join("<br>");
  if (reason !== undefined) return `not proven: ${reason}`;
  return `**nothing that ran**; named in ${namedIn.map((file) => `\`${file}\``).join(", ") || "no test"}`;
}

function namesOf(outcomes: TestOutcome[]): string {
  const names = [...new Set(outcomes.map(({ name }) => name))];
  const [shown, hidden] = [names.slice(0, MAX_NAMES), names.slice(MAX_NAMES)];
  const failed = outcomes.filter(({ passed }) => !passed).length;
  const text = shown.map((name) => name.replaceAll("<", "\\<").replaceAll(/\s+/g, " ")).join("; ");
  return `${text}${hidden.length > 0 ? `; and ${hidden.length} more` : ""}${failed > 0 ? `; **${failed} failed**` : ""}`;
}
