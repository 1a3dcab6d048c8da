#!/usr/bin/env node
/**
 * The only file that touches `process`: arguments, environment, signals, exit code. The first SIGINT or SIGTERM asks the
 * command to stop, the second ends the process at once.
 */
import { CommanderError } from "commander";
import type { Host } from "./cli/host.ts";
import { createProgram } from "./cli/program.ts";
import { ExitCode, StartupError } from "./errors.ts";
import { describeError } from "./log.ts";

const FORCED_EXIT_CODE = 130;

const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (stopping.signal.aborted) process.exit(FORCED_EXIT_CODE);
    stopping.abort();
  });
}

// A fault that nobody awaited: say it, then end in order. A supervisor starts us again.
for (const event of ["uncaughtException", "unhandledRejection"] as const) {
  process.on(event, (error: unknown) => {
    warnOf(error);
    process.exitCode = ExitCode.failure;
    if (stopping.signal.aborted) process.exit();
    stopping.abort();
  });
}

const host: Host = {
  env: process.env,
  node: process.execPath,
  mainFile: import.meta.filename,
  print: (text) => void process.stdout.write(text),
  warn: (text) => void process.stderr.write(text),
  stop: stopping.signal,
  inputEnded: () =>
    new Promise((resolve) => {
      process.stdin.once("end", resolve).once("close", resolve).resume();
    }),
};

try {
  await createProgram(host).parseAsync(process.argv);
} catch (error) {
  process.exitCode = exitCodeOf(error);
}
// Nothing that a command opened may hold the process once it has ended.
process.exit();

function exitCodeOf(error: unknown): number {
  // Commander has said already what is wrong; its help is no failure.
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  if (error instanceof StartupError) {
    host.warn(`concierge: ${error.message}\n`);
    return error.exitCode;
  }
  warnOf(error);
  return ExitCode.failure;
}

function warnOf(error: unknown): void {
  const description =
    error instanceof Error ? describeError(error) : { message: "something that is no error was thrown" };
  host.warn(`concierge: ${JSON.stringify(description)}\n`);
}
