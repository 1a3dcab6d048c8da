/**
 * Who runs the embedded PostgreSQL. The server refuses to run as root, so a root process hands it to `postgres` or
 * `nobody`; that account must then be able to enter every folder on the way, which is tried, not computed from modes.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { ExitCode, StartupError } from "../errors.ts";

/** The account a root process starts the server as. */
export interface Account {
  uid: number;
  gid: number;
}

/** The whole environment of what is started here: nothing of ours (secrets) reaches it, and messages are English. */
export const CHILD_ENVIRONMENT = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C", TZ: "UTC" };

const execute = promisify(execFile);

/** Runs a program to its end, as the account if one is given, and returns its standard output without the last newline. */
export async function run(file: string, args: string[], account?: Account): Promise<string> {
  const { stdout } = await execute(file, args, { ...account, cwd: "/", env: CHILD_ENVIRONMENT });
  return stdout.trim();
}

/** The user id of this process. */
export async function ownUid(): Promise<number> {
  return Number(await run("id", ["-u"]));
}

/** The account for a new server: undefined = this process's own (it is not root). */
export async function serverAccount(): Promise<Account | undefined> {
  if ((await ownUid()) !== 0) return undefined;
  for (const name of ["postgres", "nobody"]) {
    try {
      return { uid: Number(await run("id", ["-u", name])), gid: Number(await run("id", ["-g", name])) };
    } catch {
      // no such user: the next one
    }
  }
  throw new StartupError(
    "PostgreSQL does not run as root and there is no user `postgres` or `nobody` to run it as: " +
      "start as a normal user, or give a database URL",
    ExitCode.config,
  );
}

/** True if the account (or this process) can enter the folder. */
export async function canEnter(folder: string, account?: Account): Promise<boolean> {
  return run("test", ["-x", folder], account).then(
    () => true,
    () => false,
  );
}
