import assert from "node:assert/strict";
import { test } from "node:test";
import { StartupError } from "../errors.ts";
import { ok, runChecks } from "./finding.ts";

const LIMIT_MS = 20;

test("a check that fails, and one that never ends, hide no other", async () => {
  let aborted = false;
  const lines = await runChecks(
    [
      {
        what: "silent",
        run: (signal) => {
          signal.addEventListener("abort", () => {
            aborted = true;
          });
          return new Promise(() => {});
        },
      },
      { what: "broken", run: () => Promise.reject(new Error("the password is hunter2")) },
      { what: "refused", run: () => Promise.reject(Object.assign(new Error("at db:5432"), { code: "ECONNRESET" })) },
      { what: "unfit", run: () => Promise.reject(new StartupError("two things:\n  one\n  another")) },
      { what: "good", run: async () => [ok("fine")] },
    ],
    LIMIT_MS,
  );
  assert.deepEqual(
    lines.map(({ level, what, finding }) => `${level} ${what}: ${finding}`),
    [
      "problem silent: no answer within 0.02 seconds",
      "problem broken: the check failed",
      "problem refused: the check failed (ECONNRESET)",
      "problem unfit: two things: one another",
      "ok good: fine",
    ],
  );
  assert.ok(aborted, "what goes on is told to end");
});
