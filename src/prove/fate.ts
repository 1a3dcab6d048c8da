/**
 * How a process of a proof comes to its end: it is told to kill or to stop itself at a named place of the code, which nobody
 * could hit from outside. Without those words a failpoint does nothing.
 */
import { armFailpoint, type FailpointName } from "../failpoints.ts";

/** Long enough for the statement to have been sent, short enough for the answer to be on its way. */
const INTO_THE_CALL_MS = 1;

export interface Fate {
  failpoint: FailpointName;
}

/** Milliseconds on the clock that all processes of this machine share. */
export function commonMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** The commands of every process that is to be killed. */
export const fateCommands = {
  /** Answers never: it rejects when the process has ended. */
  live: () => new Promise<never>(() => {}),
  /** Whoever reaches the place takes the process with it. */
  dieAt({ failpoint }: Fate): void {
    armFailpoint(failpoint, () => {
      process.kill(process.pid, "SIGKILL");
      return new Promise(() => {});
    });
  },
  /** Stops the process once, before that time: right after the place, inside the call that comes there. Somebody else lets it go on. */
  stopAt({ failpoint, beforeMs }: Fate & { beforeMs: number }): void {
    const stop = () => {
      if (commonMs() < beforeMs) process.kill(process.pid, "SIGSTOP");
    };
    const point = armFailpoint(failpoint, async () => {
      point[Symbol.dispose]();
      setTimeout(stop, INTO_THE_CALL_MS);
    });
    setTimeout(() => point[Symbol.dispose](), beforeMs - commonMs()).unref();
  },
};
