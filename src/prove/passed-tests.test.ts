import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestOutcome } from "./passed-tests.ts";

const REPORTER = new URL("passed-tests.ts", import.meta.url).href;
const TESTS = `
import { describe, test } from "node:test";
test("passes", () => {});
test("fails", () => { throw new Error("no"); });
test("skipped", { skip: true }, () => {});
test("to be done", { todo: true }, () => {});
describe("in a group", () => { test("passes inside", () => {}); });
`;

test("what passed and what failed is written down with its file, and what was skipped is not", async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "concierge-reporter-"));
  context.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "some.test.mjs"), TESTS);
  await new Promise((resolve) => {
    const flags = [`--test-reporter=${REPORTER}`, "--test-reporter-destination=report.jsonl"];
    const env = { ...process.env };
    // Without it the runner believes that it is one of ours.
    delete env.NODE_TEST_CONTEXT;
    execFile(process.execPath, ["--test", ...flags, "some.test.mjs"], { cwd: folder, env }, resolve);
  });
  const lines = (await readFile(join(folder, "report.jsonl"), "utf8")).trim().split("\n");
  const outcomes = lines.map((line) => JSON.parse(line) as TestOutcome);
  const told = outcomes
    .filter(({ name }) => name !== "in a group")
    .map(({ name, file, passed }) => [name, file, passed]);
  assert.deepEqual(told, [
    ["passes", "some.test.mjs", true],
    ["fails", "some.test.mjs", false],
    ["passes inside", "some.test.mjs", true],
  ]);
});
