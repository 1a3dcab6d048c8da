import assert from "node:assert/strict";
import { test } from "node:test";
import { armFailpoint, failpoint, failpointNames, heldFailpoint } from "./failpoints.ts";

test("a failpoint that nobody armed does nothing, and makes no promise", () => {
  for (const name of failpointNames) assert.equal(failpoint(name), undefined);
});

test("an armed failpoint fails until it is disposed of, and no other does", async () => {
  {
    using _armed = armFailpoint("sender.after_push", "error");
    await assert.rejects(async () => failpoint("sender.after_push"), /^Error: failpoint sender\.after_push$/);
    await assert.rejects(async () => failpoint("sender.after_push"));
    await failpoint("sender.after_claim");
  }
  await failpoint("sender.after_push");
});

test("an armed failpoint runs the test's function and waits for it", async () => {
  const steps: string[] = [];
  using _armed = armFailpoint("sender.after_claim", async () => {
    await new Promise((resolve) => setImmediate(resolve));
    steps.push("action");
  });
  await failpoint("sender.after_claim");
  steps.push("after");
  assert.deepEqual(steps, ["action", "after"]);
});

test("a failpoint is armed once at a time, and an old disposer does not disarm a new one", () => {
  const first = armFailpoint("sender.after_claim", "error");
  assert.throws(() => armFailpoint("sender.after_claim", "error"), /already armed/);
  first[Symbol.dispose]();
  using second = armFailpoint("sender.after_claim", async () => {});
  first[Symbol.dispose]();
  assert.ok(failpoint("sender.after_claim"));
  second[Symbol.dispose]();
  assert.equal(failpoint("sender.after_claim"), undefined);
});

test("a held failpoint tells when it is reached, holds all comers, and lets them go at once", async () => {
  using held = heldFailpoint("sender.after_push");
  const passed: number[] = [];
  const comers = [1, 2].map(async (number) => {
    await failpoint("sender.after_push");
    passed.push(number);
  });
  await held.reached;
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(passed, []);
  held.release();
  await Promise.all(comers);
  assert.equal(failpoint("sender.after_push"), undefined);
  held.release();
});

test("disposing of a held failpoint releases it", async () => {
  let comer: Promise<void> | undefined;
  {
    using held = heldFailpoint("sender.after_claim");
    comer = failpoint("sender.after_claim");
    await held.reached;
  }
  await comer;
});
