import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { goalLine } from "../bench/figures.ts";
import { goalsIn, isProven, proofsOf, reportOf, resultOf } from "./report.ts";

const ended = { exitCode: 0, signal: null, seconds: 12.4 };
const [met, missed] = [2, 7].map((value) =>
  goalLine("G9", { what: "R-KEY-01 late", value, bound: 5, better: "lower" }),
);

test("every file that says it is a proof has a target, and every target a file", () => {
  const isProof = (file: string) => {
    const name = file.slice(0, -".ts".length);
    return readFileSync(new URL(file, import.meta.url), "utf8").includes(`* \`make prove/${name}\`:`);
  };
  const files = readdirSync(new URL(".", import.meta.url)).filter((file) => file.endsWith(".ts") && isProof(file));
  const makefile = readFileSync(new URL("../../Makefile", import.meta.url), "utf8");
  assert.deepEqual(files.map((file) => file.slice(0, -".ts".length)).sort(), proofsOf(makefile));
});

test("goal lines are read as they are written, among whatever else is printed", () => {
  const ratio = goalLine("edge", { what: "idle p99", ratio: 1.25, bound: 2, better: "lower" });
  assert.deepEqual(goalsIn(`info edge machine\n${met}\n${ratio}\nnoise goal\n${missed}\n`), [
    { what: "R-KEY-01 late", figure: "2", bound: "5", isReached: true },
    { what: "idle p99", figure: "1.25", bound: "2", isReached: true },
    { what: "R-KEY-01 late", figure: "7", bound: "5", isReached: false },
  ]);
});

test("a proof is proven if it met its goals and said so", () => {
  const result = resultOf("rotation", `info G9 SEED=42, 10 s\n${met}\n`, ended);
  assert.deepEqual([result.seed, result.died, isProven(result)], ["42", undefined, true]);
});

test("a proof that is short has not died", () => {
  const result = resultOf("rotation", `${met}\n${missed}\n`, { ...ended, exitCode: 1 });
  assert.deepEqual([result.died, isProven(result)], [undefined, false]);
});

test("a proof has died if it says nothing, fails with its goals met, or is ended by a signal", () => {
  const silent = resultOf("rotation", "", ended);
  const failed = resultOf("rotation", `${met}\n`, { ...ended, exitCode: 1 });
  const killed = resultOf("rotation", `${met}\n`, { ...ended, exitCode: null, signal: "SIGTERM" });
  assert.deepEqual(
    [silent, failed, killed].map((result) => [result.died, isProven(result)]),
    [
      ["exit code 0, 0 goals", false],
      ["exit code 1, 1 goals", false],
      ["ended by SIGTERM", false],
    ],
  );
});

test("the report has a row for each goal and each proof that died, and tells how long each took", () => {
  const results = [
    resultOf("rotation", `info G9 SEED=42\n${met}\n${missed}\n`, { ...ended, exitCode: 1 }),
    resultOf("push", "", { ...ended, exitCode: 2 }),
  ];
  assert.equal(
    reportOf(results),
    [
      "| Proof | What | Figure | Bound | Result | Seed |",
      "| --- | --- | --- | --- | --- | --- |",
      "| rotation | R-KEY-01 late | 2 | 5 | ok | 42 |",
      "| rotation | R-KEY-01 late | 7 | 5 | **short** | 42 |",
      "| push | died: exit code 2, 0 goals |  |  | **died** |  |",
      "",
      "| Proof | Goals met | Took |",
      "| --- | --- | --- |",
      "| rotation | 1 of 2 | 12 s |",
      "| push | 0 of 0 | 12 s |",
      "",
    ].join("\n"),
  );
});
