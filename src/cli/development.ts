/** The development environment as the commands use it: its folder, and the notes that a running `concierge dev` leaves there. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../clock.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { allDone } from "../dev/all-done.ts";
import type { Environment } from "../dev/environment.ts";
import { startPostgres } from "../dev/postgres.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { readSecret, writeSecret } from "../token/key-folder.ts";
import type { Host } from "./host.ts";

export const DEFAULT_FOLDER = ".concierge";

/** Opens the environment in this folder, over DATABASE_URL where that is set. */
export async function openDevelopment(
  host: Host,
  folder: string,
  { prefix = "concierge_", migrates = true, durable = true } = {},
): Promise<Environment> {
  await mkdir(folder, { recursive: true });
  const settings = durable ? undefined : { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };
  const databaseUrl = host.env.DATABASE_URL;
  // The server takes as long to come up as our modules take to load: both at once.
  const postgres = databaseUrl ? foreign(databaseUrl) : startPostgres({ folder: join(folder, "postgres"), settings });
  const [server, { openEnvironment }, { services }] = await allDone([
    postgres,
    import("../dev/environment.ts"),
    import("../services.ts"),
  ]);
  return openEnvironment({
    folder,
    server,
    keepsDatabases: durable || databaseUrl === undefined,
    prefix,
    definitions: services,
    migrationsFolder: MIGRATIONS_FOLDER,
    migrates,
    clock: systemClock,
    signal: host.stop,
  });
}

/** A server that is somebody else's, and stays. */
async function foreign(url: string): Promise<{ url: string } & AsyncDisposable> {
  return { url, [Symbol.asyncDispose]: () => Promise.resolve() };
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
