/** Runs one command line and says how it ended: an exit code, and on standard error one clear text for whoever reads it. */
import { CommanderError } from "commander";
import { DatabaseUnavailable } from "../db/errors.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { describeError, redactText } from "../log.ts";
import type { Host } from "./host.ts";
import { createProgram } from "./program.ts";

/** Runs the command line (without program and file) to its end; returns the exit code and never throws. */
export async function run(host: Host, args: string[]): Promise<number> {
  try {
    await createProgram(host).parseAsync(args, { from: "user" });
    return ExitCode.ok;
  } catch (error) {
    // Commander has said already what is wrong; its help is no failure.
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    if (error instanceof StartupError) {
      host.warn(`concierge: ${redactText(error.message)}\n`);
      return error.exitCode;
    }
    if (error instanceof DatabaseUnavailable) {
      host.warn(`concierge: ${error.message}\n`);
      return ExitCode.unavailable;
    }
    if (host.stop.aborted && error instanceof Error && error.name === "AbortError") {
      host.warn("concierge: stopped before it was done\n");
      return ExitCode.interrupted;
    }
    host.warn(describeFault(error));
    return ExitCode.failure;
  }
}

/** One line of JSON about a fault in the program, as the log would have it: no secret, no query with its values. */
export function describeFault(error: unknown): string {
  const fault = error instanceof Error ? describeError(error) : { message: "something that is no error was thrown" };
  return `concierge: ${redactText(JSON.stringify(fault))}\n`;
}
