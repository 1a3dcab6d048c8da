/**
 * `make coverage`: writes docs/coverage.md from what the last run of each suite (.concierge/passed/<suite>.jsonl) and of `make prove`
 * (.concierge/prove/<name>.json) reported. Runs nothing itself. Fails if a case is neither proven nor excused, or failed.
 */
import { globSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { filesByCase, readCatalogue } from "./catalogue.ts";
import { pageOf, problemsOf, type SuiteReport } from "./coverage-page.ts";
import type { TestOutcome } from "./passed-tests.ts";
import type { ProofResult } from "./report.ts";

const PAGE_FILE = "docs/coverage.md";
const MAX_SHOWN = 50;

function main(): number {
  const catalogue = readCatalogue();
  const reports = { suites: readSuites(), proofs: readProofs(), named: filesByCase() };
  if (reports.suites.length === 0) {
    process.stderr.write("No suite has reported yet. Run make test and the others first, and make prove\n");
    return 1;
  }
  writeFileSync(PAGE_FILE, pageOf(catalogue, reports));
  const problems = problemsOf(catalogue, reports);
  for (const problem of problems.slice(0, MAX_SHOWN)) process.stderr.write(`${problem}\n`);
  process.stdout.write(`${PAGE_FILE} is written, ${problems.length} problems\n`);
  return problems.length === 0 ? 0 : 1;
}

function readSuites(): SuiteReport[] {
  return globSync(".concierge/passed/*.jsonl")
    .sort()
    .map((file) => ({
      name: basename(file, ".jsonl").replace("-", "/"),
      date: statSync(file).mtime.toISOString().slice(0, 10),
      outcomes: outcomesIn(readFileSync(file, "utf8")),
    }));
}

function outcomesIn(lines: string): TestOutcome[] {
  return lines
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as TestOutcome);
}

function readProofs(): ProofResult[] {
  return globSync(".concierge/prove/*.json")
    .sort()
    .map((file) => JSON.parse(readFileSync(file, "utf8")) as ProofResult);
}

process.exitCode = main();
