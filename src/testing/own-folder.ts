/**
 * A folder that is kept from run to run beside everybody's temporary files, under a name that anybody can guess: so it counts only if it
 * is this user's, and nobody else can put anything into it.
 */
import { chmod, lstat, mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const OTHERS_WRITE = 0o022;

/** Its path; undefined where somebody else has something of that name. */
export async function openOwnFolder(name: string, parent = tmpdir()): Promise<string | undefined> {
  const uid = process.getuid?.();
  const folder = join(parent, `${name}-${uid}`);
  await mkdir(folder, { mode: 0o700 }).catch(() => {});
  const found = await lstat(folder).catch(() => undefined);
  if (!found?.isDirectory() || found.uid !== uid) return undefined;
  if ((found.mode & OTHERS_WRITE) !== 0) await chmod(folder, 0o700);
  return folder;
}
