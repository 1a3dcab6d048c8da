/**
 * The data folder of the embedded PostgreSQL: `<folder>/cluster` with `data`, `password` (0600) and `server.log`.
 * It appears by one rename when initdb is done, so a killed or a second starter never leaves or meets half a cluster.
 * A root process whose folder the server's account cannot enter keeps the cluster elsewhere and says so in `location`.
 */
import { createHash, randomBytes } from "node:crypto";
import { chown, lstat, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ExitCode, StartupError } from "../errors.ts";
import { type Account, canEnter, ownUid, run, serverAccount } from "./postgres-account.ts";
import { type Binaries, findBinaries } from "./postgres-binaries.ts";

/** Everything the launcher needs to know about where things are. */
export interface Place {
  binaries: Binaries;
  account: Account | undefined;
  /** `<folder>/cluster`. */
  cluster: string;
  data: string;
  log: string;
}

export const SUPERUSER = "postgres";

/** Finds the programs, the account and the folder. Throws StartupError if one of them cannot be had. */
export async function findPlace(requestedFolder: string, binFolder: string | undefined): Promise<Place> {
  const requested = resolve(requestedFolder);
  await mkdir(requested, { recursive: true }).catch((error) => cannotWrite(requested, error));
  const account = await ownerOrServerAccount(join(requested, "cluster"));
  const folder = (await canEnter(requested, account)) ? requested : await relocate(requested, account!);
  const binaries = await findBinaries(binFolder, account, () => privateFolder(requested, account!));
  const cluster = join(folder, "cluster");
  return { binaries, account, cluster, data: join(cluster, "data"), log: join(cluster, "server.log") };
}

/** Data that a user has made stays that user's, also when root starts the server on it. */
async function ownerOrServerAccount(cluster: string): Promise<Account | undefined> {
  const account = await serverAccount();
  const owner = await stat(cluster).catch(() => undefined);
  if (!owner) return account;
  if (account && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  if (account) {
    // restored or copied by root
    await run("chown", ["-R", `${account.uid}:${account.gid}`, cluster]);
    return account;
  }
  if (owner.uid === (await ownUid())) return undefined;
  throw new StartupError(
    `the database in ${cluster} belongs to another user (uid ${owner.uid}): start as that user or as root, ` +
      "or move the folder away to start with an empty one",
    ExitCode.config,
  );
}

async function relocate(requested: string, account: Account): Promise<string> {
  const folder = await privateFolder(requested, account);
  await writeFile(join(requested, "location"), `${folder}\n`);
  return folder;
}

/** A folder of the account's own (0700) on a path everybody can enter, always the same for one requested folder. */
async function privateFolder(requested: string, account: Account): Promise<string> {
  const name = createHash("sha256").update(requested).digest("hex").slice(0, 16);
  for (const parent of ["/var/lib", "/var/tmp", tmpdir()]) {
    if (!(await canEnter(parent, account))) continue;
    const base = join(parent, "concierge");
    await mkdir(base, { mode: 0o755 }).catch(() => {});
    const found = await lstat(base).catch(() => undefined);
    // in a folder everybody may write, somebody else could have put his own there first
    if (!found?.isDirectory() || found.uid !== 0 || (found.mode & 0o022) !== 0) continue;
    const folder = join(base, name);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chown(folder, account.uid, account.gid);
    return folder;
  }
  throw new StartupError(
    `the account that runs PostgreSQL (uid ${account.uid}) cannot enter ${requested}, and there is no other folder for ` +
      "the data: choose a folder whose parents everybody may enter",
    ExitCode.config,
  );
}

/** Runs initdb unless the cluster exists. Safe when several do it at once: one cluster wins, the others are removed. */
export async function ensureCluster(place: Place): Promise<void> {
  if (await exists(join(place.data, "PG_VERSION"))) return checkVersion(place);
  const unfinished = `${place.cluster}.new-${randomBytes(6).toString("hex")}`;
  try {
    await initialize(place, unfinished);
    await rename(unfinished, place.cluster);
  } catch (error) {
    await removeFolder(unfinished);
    if (await exists(join(place.data, "PG_VERSION"))) return;
    throw error;
  }
}

async function initialize(place: Place, folder: string): Promise<void> {
  await mkdir(folder, { mode: 0o700 }).catch((error) => cannotWrite(resolve(folder, ".."), error));
  const password = join(folder, "password");
  await writeFile(password, `${randomBytes(24).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  const log = join(folder, "server.log");
  await writeFile(log, "", { mode: 0o600 });
  if (place.account) {
    for (const path of [folder, password, log]) await chown(path, place.account.uid, place.account.gid);
  }
  const args = ["-D", join(folder, "data"), `--username=${SUPERUSER}`, `--pwfile=${password}`];
  args.push("--auth=scram-sha-256", "--locale=C", "--encoding=UTF8", "--no-instructions");
  // Nobody's data is in it yet. Should the machine itself crash before the system has written it, it is made anew.
  args.push("--no-sync");
  try {
    await run(join(place.binaries.folder, "initdb"), args, place.account);
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : String(error);
    throw new StartupError(`initdb in ${place.cluster} failed: ${said}`, ExitCode.unavailable);
  }
}

async function checkVersion(place: Place): Promise<void> {
  const made = (await readFile(join(place.data, "PG_VERSION"), "utf8")).trim();
  if (made === String(place.binaries.major)) return;
  throw new StartupError(
    `the data in ${place.data} was made by PostgreSQL ${made}, the programs in ${place.binaries.folder} are version ` +
      `${place.binaries.major}: start version ${made} on it to dump what you need, or move ${place.cluster} away to ` +
      "start with an empty database",
    ExitCode.config,
  );
}

/** Removes what killed starters left of their initdb. Only for whoever has the server running. */
export async function removeUnfinished(place: Place): Promise<void> {
  const folder = resolve(place.cluster, "..");
  for (const name of await readdir(folder)) {
    // One whose initdb still runs belongs to a starter that has lost; that one removes it, if we cannot.
    if (name.startsWith("cluster.new-")) await removeFolder(join(folder, name)).catch(() => {});
  }
}

/** Tries again while a program that is about to end still makes files in it. */
async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
}

/** The superuser's password; undefined if the cluster is not there. */
export async function readPassword(place: Place): Promise<string> {
  const text = await readFile(join(place.cluster, "password"), "utf8").catch(() => "");
  if (text.trim() !== "") return text.trim();
  throw new StartupError(
    `the password file of the database is missing: ${join(place.cluster, "password")}; restore it, or move ` +
      `${place.cluster} away to start with an empty database`,
    ExitCode.config,
  );
}

export interface PidFile {
  text: string;
  pid: number;
  port: number;
}

/** What postmaster.pid says; undefined if there is none (or not yet a whole one). */
export async function readPidFile(place: Place): Promise<PidFile | undefined> {
  const text = await readFile(join(place.data, "postmaster.pid"), "utf8").catch(() => "");
  const lines = text.split("\n");
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  return pid > 0 && port > 0 ? { text, pid, port } : undefined;
}

/** Removes the pid file if it is still the given one: renamed first, so a new server's file is never lost. */
export async function removePidFile(place: Place, stale: PidFile): Promise<void> {
  const path = join(place.data, "postmaster.pid");
  const aside = `${path}.${randomBytes(6).toString("hex")}`;
  await rename(path, aside).catch(() => {});
  const text = await readFile(aside, "utf8").catch(() => stale.text);
  if (text !== stale.text) return rename(aside, path);
  await rm(aside, { force: true });
}

function cannotWrite(folder: string, error: NodeJS.ErrnoException): never {
  const message = `cannot write to ${folder} (${error.code}): choose another folder for the database, or change its owner`;
  throw new StartupError(message, ExitCode.config);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
