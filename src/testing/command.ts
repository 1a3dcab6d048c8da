/**
 * The command line as its users have it: real processes of `src/main.ts`, with an environment of their own, that a test
 * waits for by what they print and how they end. Whatever still runs at a test's end is killed, by its id.
 */
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Host } from "../cli/host.ts";
import { run } from "../cli/run.ts";

export const MAIN_FILE = fileURLToPath(new URL("../main.ts", import.meta.url));

const TIMEOUT_MS = 60_000;
const POLL_MS = 10;

/** How a process ended, and all that it said. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunningCommand extends AsyncDisposable {
  readonly pid: number;
  readonly input: Writable;
  /** Standard output so far, and standard error. */
  stdout(): string;
  stderr(): string;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the match when standard output has one; fails when the process ends without. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves when the process has ended and everything it wrote was read. */
  ended(): Promise<Ended>;
}

/** Starts `concierge <args>`. The environment is what is given, and what any program needs. */
export function startCommand(args: string[], env: Record<string, string | undefined> = {}): RunningCommand {
  const child = spawn(process.execPath, [MAIN_FILE, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: process.env.TMPDIR, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const output = collect(child);
  child.stdin.on("error", () => {});
  const closed = once(child, "close");
  const ended = async () => {
    await within(closed, () => `concierge ${args.join(" ")} did not end:\n${output.stdout}${output.stderr}`);
    return { code: child.exitCode, signal: child.signalCode, ...output };
  };
  return {
    pid: child.pid!,
    input: child.stdin,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    kill: (signal) => void child.kill(signal),
    async printed(pattern) {
      for (let waitedMs = 0; ; waitedMs += POLL_MS) {
        const match = pattern.exec(output.stdout);
        if (match) return match;
        const isOver = child.exitCode !== null || child.signalCode !== null || waitedMs >= TIMEOUT_MS;
        assert.ok(!isOver, `${pattern} was not printed:\n${output.stdout}${output.stderr}`);
        await delay(POLL_MS);
      }
    },
    ended,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await ended();
    },
  };
}

/** Runs `concierge <args>` to its end, with nothing on standard input. */
export async function runCommand(args: string[], env: Record<string, string | undefined> = {}): Promise<Ended> {
  await using command = startCommand(args, env);
  command.input.end();
  return await command.ended();
}

/** Runs a command that ends by itself, or by `stop`, inside this process: the same, a second faster. */
export async function runHere(
  args: string[],
  env: Record<string, string | undefined> = {},
  {
    stop = new AbortController().signal,
    print = () => {},
    warn = () => {},
  }: Partial<Pick<Host, "stop" | "print" | "warn">> = {},
): Promise<Ended> {
  const output = { stdout: "", stderr: "" };
  const code = await run(
    {
      env,
      node: process.execPath,
      mainFile: MAIN_FILE,
      print(text) {
        output.stdout += text;
        print(text);
      },
      warn(text) {
        output.stderr += text;
        warn(text);
      },
      residentBytes: () => process.memoryUsage.rss(),
      stop,
      inputEnded: () => Promise.resolve(),
    },
    args,
  );
  return { code, signal: null, ...output };
}

function collect(child: ChildProcessByStdio<Writable, Readable, Readable>) {
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output.stderr += text;
  });
  return output;
}

async function within(event: Promise<unknown>, problem: () => string): Promise<void> {
  const timer = new AbortController();
  const late = delay(TIMEOUT_MS, "late", { signal: timer.signal }).catch(() => "");
  const first = await Promise.race([event, late]);
  timer.abort();
  assert.notEqual(first, "late", problem());
}

/**
 * A port on 127.0.0.1 that somebody else has. A process that is configured to open it fails with exit code 69; so a
 * process that ends with 78 instead has not even tried.
 */
export async function occupiedPort(): Promise<AsyncDisposable & { port: number }> {
  const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, "close");
    },
  };
}

/** Below the ports that systems give to outgoing connections, any of which may get what was free a moment ago. */
const FIRST_PORT = 10_000;
const PORTS = 10_000;
/** Whoever was told of one may listen there only later. */
const told = new Set<number>();

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + randomInt(PORTS);
    if (told.has(port)) continue;
    const server = createServer();
    try {
      await once(server.listen(port, "127.0.0.1"), "listening");
      told.add(port);
      return port;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  }
}
