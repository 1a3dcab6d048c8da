/**
 * Work that a service does by itself, again and again. Each job waits its interval between the end of one run and the start
 * of the next, so runs of one job never overlap; an alarm ends the wait early. A run that fails is logged and does not stop the
 * next one.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "./log.ts";

export interface Job {
  /** For the log: "sweep spent tokens". */
  name: string;
  everyMs: number;
  /** Ends the wait for the next run, whenever there is something to do. */
  alarm?: Alarm;
  /** One run. `signal` aborts when the process stops; the run should then end soon. */
  run(signal: AbortSignal): Promise<void>;
}

/** Tells a job that there is something to do: now, or as soon as the run that is under way has ended. */
export class Alarm {
  #rung = Promise.withResolvers<void>();

  ring(): void {
    this.#rung.resolve();
  }

  /** Resolves when it was rung since the last reset(). */
  rung(): Promise<void> {
    return this.#rung.promise;
  }

  reset(): void {
    this.#rung = Promise.withResolvers();
  }
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
    job.alarm?.reset();
    try {
      await job.run(signal);
      if (failures > 0) log.info({ job: job.name }, "job runs again");
      failures = 0;
    } catch (error) {
      failures += 1;
      // Once per outage, not once per run: a job that runs every second would bury the log.
      if (failures === 1 && !signal.aborted) log.warn({ job: job.name, error }, "job failed, will be tried again");
    }
    await pause(job, signal);
  }
}

async function pause({ everyMs, alarm }: Job, signal: AbortSignal): Promise<void> {
  const rung = new AbortController();
  const over = delay(everyMs, undefined, { signal: AbortSignal.any([signal, rung.signal]) }).catch(() => {});
  await (alarm ? Promise.race([over, alarm.rung()]) : over);
  rung.abort();
}
