/** Servers of `make bench/rpc` as processes of their own: started, asked for their CPU time, stopped. Their logs are files. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { open, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { FromServer, ToServer } from "./main.ts";
import type { ServerName, Task } from "./task.ts";

const MAIN_FILE = fileURLToPath(new URL("main.ts", import.meta.url));
const LOG_POLL_MS = 10;
const LOG_POLLS = 200;

export type LogLine = Record<string, unknown>;

export interface ServerProcess extends AsyncDisposable {
  readonly name: ServerName;
  readonly port: number;
  /** CPU time so far, user and system, of all its threads. */
  cpuMicroseconds(): Promise<number>;
  /** Its own count, so far, of the calls that went well; undefined for a server that does not count. */
  countedCalls(): Promise<number | undefined>;
  /** The lines about calls since the last time; waits, within reason, until there are as many as expected. */
  takeCallLines(expected: number): Promise<LogLine[]>;
}

/** Starts one and waits until it answers. `nodeOptions` are for its Node. */
export async function startServerProcess(
  name: ServerName,
  task: Task,
  { folder, nodeOptions }: { folder: string; nodeOptions: string[] },
): Promise<ServerProcess> {
  const logFile = join(folder, `${name}.log`);
  // For appending, so that it can be emptied while the server writes.
  const log = await open(logFile, "a");
  const child = fork(MAIN_FILE, [name], {
    stdio: ["ignore", log.fd, "inherit", "ipc"],
    serialization: "advanced",
    execArgv: nodeOptions,
  });
  const exited = once(child, "exit");
  await using opened = new AsyncDisposableStack();
  opened.defer(async () => {
    if (child.connected) child.disconnect();
    await exited;
    await log.close();
  });
  const answer = await ask(child, { task });
  const resources = opened.move();
  return {
    name,
    port: (answer as { port: number }).port,
    async cpuMicroseconds() {
      const answer = await ask(child, "cpu time");
      return (answer as { cpuMicroseconds: number }).cpuMicroseconds;
    },
    async countedCalls() {
      const answer = await ask(child, "metrics");
      return countedCalls((answer as { metrics: string | undefined }).metrics);
    },
    takeCallLines: (expected) => takeCallLines(logFile, expected),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** The server's next message; rejects when the server ends instead. */
async function ask(child: ChildProcess, message: ToServer): Promise<FromServer> {
  const abandoned = new AbortController();
  const answered = once(child, "message", { signal: abandoned.signal });
  const ended = once(child, "exit", { signal: abandoned.signal });
  const failed = ended.then(([code]) => {
    throw new Error(`the server ${child.spawnargs.at(-1)} ended with code ${code}`);
  });
  child.send(message);
  try {
    const [answer] = await Promise.race([answered, failed]);
    return answer as FromServer;
  } finally {
    for (const waiting of [answered, failed]) waiting.catch(() => {});
    abandoned.abort();
  }
}

async function takeCallLines(logFile: string, expected: number): Promise<LogLine[]> {
  let lines: LogLine[] = [];
  for (let polls = 0; polls < LOG_POLLS; polls++) {
    lines = callLines(await readFile(logFile, "utf8"));
    if (lines.length >= expected) break;
    await delay(LOG_POLL_MS);
  }
  await truncate(logFile);
  return lines;
}

function countedCalls(metrics: string | undefined): number | undefined {
  const count = metrics?.match(/^rpc_server_call_duration_seconds_count\{.*code="OK".*\} (\d+)$/m)?.[1];
  return count === undefined ? undefined : Number(count);
}

/** Complete lines only: the last may be on its way. */
function callLines(text: string): LogLine[] {
  const complete = text.split("\n").slice(0, -1);
  return complete.map((line) => JSON.parse(line) as LogLine).filter(({ procedure }) => procedure !== undefined);
}
