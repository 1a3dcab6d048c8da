#!/usr/bin/env node
/**
 * The only file that touches `process`: arguments, environment, signals, output, exit code. The first SIGINT or SIGTERM asks
 * the command to stop, the second ends the process at once.
 */
import { enableCompileCache } from "node:module";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Host } from "./cli/host.ts";

const FAULT_EXIT_CODE = 1;
const INTERRUPTED_EXIT_CODE = 130;
const LAST_WORDS_MS = 1_000;

const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (stopping.signal.aborted) process.exit(INTERRUPTED_EXIT_CODE);
    stopping.abort();
  });
}
// Whoever read our output has gone (`concierge config | head -1`): that is no fault, and nobody is left to be told.
for (const output of [process.stdout, process.stderr]) output.on("error", () => {});

// Compiling our 800 modules takes two fifths of the time they need to load. Where the folder cannot be written, as in a
// container, nothing is kept.
enableCompileCache(fileURLToPath(new URL("../node_modules/.cache/concierge", import.meta.url)));
const { importServer } = await import("./server-packages.ts");
const { describeFault, run } = await importServer(() => import("./cli/run.ts")).catch((error: Error) => {
  if (!("exitCode" in error)) throw error;
  process.stderr.write(`concierge: ${error.message}\n`);
  process.exit(Number(error.exitCode));
});

const host: Host = {
  env: process.env,
  node: process.execPath,
  mainFile: import.meta.filename,
  print: (text) => void process.stdout.write(text),
  warn: (text) => void process.stderr.write(text),
  residentBytes: () => process.memoryUsage.rss(),
  stop: stopping.signal,
  inputEnded: () =>
    new Promise((resolve) => {
      process.stdin.once("end", resolve).once("close", resolve).once("error", resolve).resume();
    }),
};

// A fault that nobody awaited: say it, then end in order. A supervisor starts us again.
for (const event of ["uncaughtException", "unhandledRejection"] as const) {
  process.on(event, (error: unknown) => {
    host.warn(describeFault(error));
    process.exitCode = FAULT_EXIT_CODE;
    if (stopping.signal.aborted) process.exit();
    stopping.abort();
  });
}

const exitCode = await run(host, process.argv.slice(2));
process.exitCode ??= exitCode;
for (const output of [process.stdout, process.stderr]) {
  const written = new Promise<void>((resolve) => void output.write("", () => resolve()));
  // Who pages through it takes its time; but nobody may keep from its end what was told to stop, or what has a fault.
  await (stopping.signal.aborted ? Promise.race([written, delay(LAST_WORDS_MS)]) : written);
}
// Nothing that a command opened may hold the process once it has ended.
process.exit();
