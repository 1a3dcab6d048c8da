/** Files with the authorities (PEM) that certify others, which a process trusts instead of the well-known ones. */
import { readFile } from "node:fs/promises";
import { ExitCode, StartupError } from "./errors.ts";

/**
 * The text of such a file; undefined where none is named. `whom` they certify is said where it cannot be read: a
 * StartupError.
 */
export async function readAuthorities(whom: string, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new StartupError(`the authorities of ${whom} cannot be read: ${path}`, ExitCode.config, { cause });
  }
}
