import assert from "node:assert/strict";
import { test } from "node:test";
import { greetAgain, greetAll } from "./greetings.ts";

async function* people(count: number) {
  for (let number = 1; number <= count; number++) yield { name: `n${number}` };
}

test("everybody is greeted at once, as one says it in English", async () => {
  assert.equal(await greetAll(people(1)), "Hello, n1!");
  assert.equal(await greetAll(people(2)), "Hello, n1 and n2!");
  assert.equal(await greetAll(people(3)), "Hello, n1, n2, and n3!");
});

test("the pause before the next greeting ends with the call, and leaves no timer behind", async () => {
  const call = new AbortController();
  const greetings = greetAgain("Ann", { count: 2, pauseMs: 10_000 }, call.signal);
  assert.deepEqual((await greetings.next()).value, { message: "Hello, Ann!", number: 1 });
  const timersBefore = timers();
  const second = greetings.next();
  await new Promise(setImmediate);
  assert.equal(timers(), timersBefore + 1);

  call.abort(new Error("the client has left"));

  await assert.rejects(second, { message: "the client has left" });
  assert.equal(timers(), timersBefore);
  assert.equal((await greetings.next()).done, true);
});

function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
}
