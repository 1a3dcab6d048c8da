/** Jobs: again and again, one run at a time, through failures, until they are stopped. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Alarm, type Job, startJobs } from "./jobs.ts";
import { createLogger } from "./log.ts";

const ONE_HOUR_MS = 3_600_000;

/** A logger and its lines: "level message job". */
function logLines() {
  const lines: string[] = [];
  const write = (text: string) => {
    const { level, msg, job } = JSON.parse(text);
    lines.push(`${level} ${msg} ${job}`);
  };
  return { lines, log: createLogger({ level: "debug", mode: "development", destination: { write } }) };
}

/** A job whose runs a test can count, and wait for. */
function countedJob(name: string, everyMs: number, work: (run: number, signal: AbortSignal) => Promise<void>) {
  const reached = Promise.withResolvers<void>();
  let runs = 0;
  const job: Job = { name, everyMs, run: (signal) => work(++runs, signal) };
  return { job, reached, runs: () => runs };
}

test("the first run is at once, and the next after the interval", async () => {
  const slow = countedJob("slow", ONE_HOUR_MS, async () => {});
  const fast = countedJob("fast", 1, async (run) => {
    if (run === 3) fast.reached.resolve();
  });
  await using _ = startJobs([slow.job, fast.job], logLines().log);
  assert.deepEqual([slow.runs(), fast.runs()], [1, 1]);
  await fast.reached.promise;
  assert.equal(slow.runs(), 1);
});

test("runs of one job never overlap, and do not hold up another job", async () => {
  const finish = Promise.withResolvers<void>();
  const long = countedJob("long", 0, () => finish.promise);
  const other = countedJob("other", 1, async (run) => {
    if (run === 5) other.reached.resolve();
  });
  const jobs = startJobs([long.job, other.job], logLines().log);
  await other.reached.promise;
  assert.equal(long.runs(), 1);
  finish.resolve();
  await jobs[Symbol.asyncDispose]();
});

test("a run that fails is tried again, and said once an outage, with its end", async () => {
  const failing = new Set([1, 2, 3, 6]);
  const job = countedJob("sweep", 1, async (run) => {
    if (run === 8) job.reached.resolve();
    if (failing.has(run)) throw new Error("no database");
  });
  const { log, lines } = logLines();
  await using _ = startJobs([job.job], log);
  await job.reached.promise;
  const [failed, again] = ["warn job failed, will be tried again sweep", "info job runs again sweep"];
  assert.deepEqual(lines, [failed, again, failed, again]);
});

test("a run that throws before it returns a promise is a failed run", async () => {
  const job = countedJob("broken", 1, (run) => {
    if (run === 2) job.reached.resolve();
    throw new Error("at once");
  });
  const { log, lines } = logLines();
  const jobs = startJobs([job.job], log);
  await job.reached.promise;
  await jobs[Symbol.asyncDispose]();
  assert.equal(lines.length, 1);
});

test("stopping aborts a run, waits for it, starts no other, and reports nothing; twice is once", async () => {
  let ended = false;
  const job = countedJob("long", 0, async (_, signal) => {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    await nextTurn();
    ended = true;
    throw new Error("it was cut off");
  });
  const { log, lines } = logLines();
  const jobs = startJobs([job.job], log);
  await Promise.all([jobs[Symbol.asyncDispose](), jobs[Symbol.asyncDispose]()]);
  assert.equal(ended, true);
  await jobs[Symbol.asyncDispose]();
  assert.deepEqual([job.runs(), lines], [1, []]);
});

test("stopping does not wait for the interval", async () => {
  const job = countedJob("rare", ONE_HOUR_MS, async () => {});
  const jobs = startJobs([job.job], logLines().log);
  await nextTurn();
  await jobs[Symbol.asyncDispose]();
  assert.equal(job.runs(), 1);
});

test("an alarm ends the wait, and one that is rung during a run is not forgotten", async () => {
  const alarm = new Alarm();
  const second = Promise.withResolvers<void>();
  const job = countedJob("woken", ONE_HOUR_MS, async (run) => {
    if (run === 2) {
      alarm.ring();
      second.resolve();
    }
    if (run === 3) job.reached.resolve();
  });
  await using _ = startJobs([{ ...job.job, alarm }], logLines().log);
  alarm.ring();
  await second.promise;
  await job.reached.promise;
  assert.equal(job.runs(), 3);
});
