/**
 * Work that a service does by itself, again and again. Each job waits its interval between the end of one run and the start
 * of the next, so runs of one job never overlap. A run that fails is logged and does not stop the next one.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "./log.ts";

export interface Job {
  /** For the log: "sweep spent tokens". */
  name: string;
  everyMs: number;
  /** One run. `signal` aborts when the process stops; the run should then end soon. */
  run(signal: AbortSignal): Promise<void>;
}

/** Starts the jobs, each with a first run at once. Disposing aborts what is running and waits for it. */
export function startJobs(jobs: Job[], log: Logger): AsyncDisposable {
  const controller = new AbortController();
  const loops = jobs.map((job) => repeat(job, controller.signal, log));
  return {
    async [Symbol.asyncDispose]() {
      controller.abort();
      await Promise.all(loops);
    },
  };
}

async function repeat(job: Job, signal: AbortSignal, log: Logger): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    try {
      await job.run(signal);
      if (failures > 0) log.info({ job: job.name }, "job runs again");
      failures = 0;
    } catch (error) {
      failures += 1;
      // Once per outage, not once per run: a job that runs every second would bury the log.
      if (failures === 1 && !signal.aborted) log.warn({ job: job.name, error }, "job failed, will be tried again");
    }
    await delay(job.everyMs, undefined, { signal }).catch(() => {});
  }
}
