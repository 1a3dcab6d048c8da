import assert from "node:assert/strict";
import { test } from "node:test";
import { coverageOf, isCovered, pageOf, problemsOf, type Reports } from "./coverage-page.ts";
import type { ProofResult } from "./report.ts";

const catalogue = {
  groups: { Tokens: { "S-JWT-01": "no algorithm", "S-JWT-02": "a public key" }, Keys: { "R-KEY-01": "rotation" } },
  reasons: { "S-JWT-02": "does not apply" },
};

function passed(name: string) {
  return { name, file: "src/token/a.test.ts", passed: true };
}

function proof(isReached: boolean, died?: string): ProofResult {
  const goal = { what: "R-KEY-01 refused", figure: "0", bound: "0", isReached };
  return { name: "rotation", goals: [goal], seed: undefined, seconds: 1, died };
}

function reports(outcomes: ReturnType<typeof passed>[], proofs: ProofResult[] = [proof(true)]): Reports {
  return {
    suites: [{ name: "test/engines", date: "2026-01-02", outcomes }],
    proofs,
    named: new Map([["S-JWT-01", ["src/a.test.ts"]]]),
  };
}

test("a case is covered by tests that passed and goals that were met", () => {
  const covered = coverageOf(catalogue, reports([passed("S-JWT-01 none")])).filter(isCovered);
  assert.deepEqual(
    covered.map(({ id }) => id),
    ["S-JWT-01", "R-KEY-01"],
  );
  assert.deepEqual(problemsOf(catalogue, reports([passed("S-JWT-01 none")])), []);
});

test("one failed test, one short goal or a proof that died is a problem, whatever else passed", () => {
  const failed = { ...passed("S-JWT-01 nOnE"), passed: false };
  assert.deepEqual(
    problemsOf(
      catalogue,
      reports([passed("S-JWT-01 none"), failed], [proof(true), proof(false), proof(true, "killed")]),
    ),
    ["make prove/rotation: died", "S-JWT-01: a test failed", "R-KEY-01: a goal is short"],
  );
});

test("a case that nothing proves needs a reason, and one that is proven must have none", () => {
  assert.deepEqual(problemsOf(catalogue, reports([passed("S-JWT-02 a public key")], [])), [
    "S-JWT-01: nothing that ran proves it, and there is no reason why not",
    "S-JWT-02: proven, although there is a reason why not",
    "R-KEY-01: nothing that ran proves it, and there is no reason why not",
  ]);
});

test("an id that is no case is a problem", () => {
  assert.deepEqual(problemsOf(catalogue, reports([passed("S-JWT-01, S-JWT-99 none")])), [
    "S-JWT-99: not in the catalogue",
  ]);
});

test("the page counts, and names the evidence of each case", () => {
  const many = Array.from({ length: 5 }, (_, number) => passed(`S-JWT-01 none ${number}`));
  const page = pageOf(catalogue, reports([...many, passed("S-JWT-01 none 0")]));
  assert.match(page, /^Of 3 cases 2 are proven, and of 1 it is said why not\.$/m);
  assert.match(page, /^\| make test\/engines \| 6 \| 0 \| 2026-01-02 \|$/m);
  const names = "S-JWT-01 none 0; S-JWT-01 none 1; S-JWT-01 none 2; and 2 more";
  assert.ok(page.includes(`| S-JWT-01 | no algorithm | \`src/token/a.test.ts\`: ${names} |`), page);
  assert.ok(page.includes("| S-JWT-02 | a public key | not proven: does not apply |"), page);
  assert.ok(page.includes("| R-KEY-01 | rotation | `make prove/rotation`: R-KEY-01 refused: 0, bound 0 |"), page);
});

test("the page does not take a name for a proof", () => {
  const page = pageOf(catalogue, reports([], []));
  assert.match(page, /^Of 3 cases 0 are proven/m);
  assert.ok(page.includes("| S-JWT-01 | no algorithm | **nothing that ran**; named in `src/a.test.ts` |"), page);
  assert.ok(page.includes("| R-KEY-01 | rotation | **nothing that ran**; named in no test |"), page);
});
