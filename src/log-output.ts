/**
 * Where a server's log lines go: to a file descriptor, and no call ever waits for it. While they cannot be written, because
 * nobody reads the pipe or the disk is full, they wait in memory; beyond a bound new ones are dropped, and counted. Once there
 * is room again, those that waited are written, and the log goes on.
 */
import { write } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { DestinationStream } from "pino";

export interface LogOutput extends DestinationStream, AsyncDisposable {
  /** Lines that nobody will ever see. */
  dropped(): number;
}

/** Characters that wait at most: some 4,000 lines. */
const MAX_WAITING = 1024 * 1024;
const TRY_AGAIN_MS = 20;
/** For what still waits at the end; a supervisor's patience with the whole process is about ten seconds. */
const CLOSE_MS = 1_000;

/** Disposing writes what waits, but does not wait for it longer than a second. */
export function openLogOutput(fd: number): LogOutput {
  let waiting: string[] = [];
  let waitingCharacters = 0;
  let dropped = 0;
  let writing: Promise<void> | undefined;
  let isClosed = false;
  const writeAll = async () => {
    while (waiting.length > 0) {
      const lines = waiting.join("");
      waiting = [];
      const bytes = Buffer.from(lines);
      for (let at = 0; at < bytes.length; ) {
        if (isClosed) return;
        const written = await tryWrite(fd, bytes, at);
        at += written ?? 0;
        if (written === undefined) await delay(TRY_AGAIN_MS, undefined, { ref: false });
      }
      waitingCharacters -= lines.length;
    }
  };
  return {
    write(line) {
      if (waitingCharacters + line.length > MAX_WAITING) {
        dropped++;
        return;
      }
      waiting.push(line);
      waitingCharacters += line.length;
      writing ??= writeAll().finally(() => {
        writing = undefined;
      });
    },
    dropped: () => dropped,
    async [Symbol.asyncDispose]() {
      await Promise.race([writing, delay(CLOSE_MS)]);
      isClosed = true;
    },
  };
}

/** How much was written; undefined: nothing can be, now. */
function tryWrite(fd: number, bytes: Buffer, at: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    write(fd, bytes, at, (error, written) => resolve(error ? undefined : written));
  });
}
