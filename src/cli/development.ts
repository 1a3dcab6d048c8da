/** The development environment as the commands use it: its folder, and the notes that a running `concierge dev` leaves there. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../clock.ts";
import { type Environment, openEnvironment } from "../dev/environment.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { services } from "../services.ts";
import { readSecret, writeSecret } from "../token/key-folder.ts";
import { migrationsFolder } from "./configuration.ts";
import type { Host } from "./host.ts";

export const DEFAULT_FOLDER = ".concierge";

/** Opens the environment in this folder, over DATABASE_URL where that is set. */
export function openDevelopment(
  host: Host,
  folder: string,
  { prefix = "concierge_", migrates = true, durable = true } = {},
): Promise<Environment> {
  return openEnvironment({
    folder,
    databaseUrl: host.env.DATABASE_URL,
    prefix,
    definitions: services,
    migrationsFolder,
    migrates,
    durable,
    clock: systemClock,
    signal: host.stop,
  });
}

/** What other commands need to know of a running `concierge dev`. */
export interface RunningNote {
  publicUrl: string;
  internalUrl: string;
  demoAccount: { email: string; password: string };
}

const noteFile = (folder: string) => join(folder, "running.json");

/** Leaves the note until it is disposed. */
export async function leaveRunningNote(folder: string, note: RunningNote): Promise<AsyncDisposable> {
  await writeSecret(noteFile(folder), note);
  return { [Symbol.asyncDispose]: () => rm(noteFile(folder), { force: true }) };
}

/** Reads the note, or says that nothing is running. */
export async function readRunningNote(folder: string): Promise<RunningNote> {
  const note = await readSecret(noteFile(folder));
  if (note) return note as RunningNote;
  throw new StartupError(`nothing is running in ${folder}: start it with \`make start\``, ExitCode.unavailable);
}
