/**
 * The processes of a proof: what is measured and what measures it must not share an event loop. A worker is a file that
 * answers commands over IPC, one result or one error each; it ends with its parent.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { devNull } from "node:os";

export interface WorkerOptions {
  /** File that takes what it prints; nowhere unless given. */
  outputFile?: string;
  /** File that takes its warnings and errors; our own standard error unless given. */
  errorFile?: string;
  /** Flags for Node, such as "--expose-gc". */
  flags?: string[];
}

export interface Worker extends AsyncDisposable {
  readonly pid: number;
  /** Rejects with the worker's error, or when it has ended. */
  call<Result>(command: string, parameters?: unknown): Promise<Result>;
}

type Commands = Record<string, (parameters: never) => unknown>;
type Reply = { id: number } & ({ result: unknown } | { error: string });

/** Starts src/prove/<name>.ts. */
export function startWorker(name: string, options: WorkerOptions = {}): Worker {
  const output = openSync(options.outputFile ?? devNull, "a");
  const errors = options.errorFile === undefined ? undefined : openSync(options.errorFile, "a");
  const child = fork(new URL(`${name}.ts`, import.meta.url), {
    execArgv: options.flags ?? [],
    stdio: ["ignore", output, errors ?? "inherit", "ipc"],
  });
  closeSync(output);
  if (errors !== undefined) closeSync(errors);
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  child.on("message", (reply: Reply) => {
    const call = waiting.get(reply.id);
    waiting.delete(reply.id);
    if ("error" in reply) call?.reject(new Error(`${name}: ${reply.error}`));
    else call?.resolve(reply.result);
  });
  child.on("exit", (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`${name} ended (${signal ?? code})`));
  });
  let nextId = 0;
  return {
    pid: child.pid!,
    call<Result>(command: string, parameters: unknown = {}) {
      const id = nextId++;
      const call = Promise.withResolvers<unknown>();
      waiting.set(id, call);
      if (!child.connected) call.reject(new Error(`${name} has ended`));
      else child.send({ id, command, parameters }, (error) => error && call.reject(error));
      return call.promise as Promise<Result>;
    },
    [Symbol.asyncDispose]: () => stop(child),
  };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

/** Makes this process a worker with these commands. */
export function answerCommands(commands: Commands): void {
  process.on("message", async ({ id, command, parameters }: { id: number; command: string; parameters: never }) => {
    try {
      process.send!({ id, result: await commands[command]!(parameters) });
    } catch (error) {
      process.send!({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  });
  process.on("disconnect", () => process.exit());
}

const CLOCK_TICKS_PER_SECOND = 100;
export const BYTES_PER_MEGABYTE = 1024 * 1024;

/** What Linux says of a process. */
export interface Usage {
  /** User and system time since it started. */
  cpuMs: number;
  rssMegabytes: number;
  openFiles: number;
}

export function usageOf(pid: number): Usage {
  // The name, in parentheses, may have spaces.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  const resident = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1];
  return {
    cpuMs: ((Number(fields[11]) + Number(fields[12])) * 1000) / CLOCK_TICKS_PER_SECOND,
    rssMegabytes: (Number(resident) * 1024) / BYTES_PER_MEGABYTE,
    openFiles: readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** How many files this process, and those that it starts, may have open. */
export function openFilesLimit(): number {
  const [, limit] = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "utf8"))!;
  return limit === "unlimited" ? Number.POSITIVE_INFINITY : Number(limit);
}
