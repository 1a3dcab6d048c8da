/** Worker: the servers that are fuzzed, and the count of what must not happen in them. */
import { systemClock } from "../clock.ts";
import { createLogger } from "../log.ts";
import { type FuzzServers, startFuzzServers } from "../testing/fuzz-servers.ts";
import { answerCommands, BYTES_PER_MEGABYTE } from "./workers.ts";

const MAX_KEPT = 20;
const faults: string[] = [];
let servers: FuzzServers | undefined;

/** A crash would end this process, which its parent sees; these are the ones that main.ts would end it for. */
for (const event of ["uncaughtException", "unhandledRejection"] as const) {
  process.on(event, (error: Error) => note(`${event}: ${error.stack ?? error}`));
}

function note(text: string): void {
  if (faults.length < MAX_KEPT) faults.push(text);
}

answerCommands({
  async start() {
    const log = createLogger({
      level: "error",
      mode: "production",
      clock: systemClock,
      destination: { write: note },
    });
    servers = await startFuzzServers(log);
    return { urls: servers.urls, authorization: servers.authorization };
  },
  /** What went wrong since the last time. */
  takeFaults: () => faults.splice(0),
  fastCalls: () => servers!.fastCalls(),
  /** Megabytes of objects and buffers that are left after a collection. */
  collectGarbage() {
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return (heapUsed + external) / BYTES_PER_MEGABYTE;
  },
});
