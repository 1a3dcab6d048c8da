/**
 * A cluster with migrated templates in it, made by the first process of this user on this machine and kept in the folder for temporary
 * files: those after it begin with a copy. It appears by one rename, so that processes that start at once never meet half of it.
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../dev/postgres-account.ts";
import { openOwnFolder } from "./own-folder.ts";

const KEPT_MS = 7 * 86_400_000;

export interface ClusterRecipe {
  /** Whatever, when it changes, asks for another cluster: migrations, the version of PostgreSQL. */
  ingredients: string;
  /** Makes the cluster in `<folder>/cluster`, and stops it. */
  make(folder: string): Promise<void>;
}

/** Copies the cluster to `<folder>/cluster`, after making it if need be. Leaves `folder` empty where none can be kept. */
export async function copyPreparedCluster({ ingredients, make }: ClusterRecipe, folder: string): Promise<void> {
  const shelf = await openOwnFolder("concierge-clusters");
  if (shelf === undefined) return;
  // The account that a root process starts the server as must get in.
  if (process.getuid?.() === 0) await chmod(shelf, 0o755);
  const kept = join(shelf, createHash("sha256").update(ingredients).digest("hex").slice(0, 16));
  if (!(await exists(kept))) await prepare(make, kept);
  const cluster = join(kept, "cluster");
  // With its owner, who is not we where we are root; by reference where the file system can.
  if (await exists(cluster)) await run("cp", ["-a", cluster, folder]);
}

async function prepare(make: ClusterRecipe["make"], kept: string): Promise<void> {
  await removeOld(join(kept, ".."));
  const unfinished = `${kept}.new-${crypto.randomUUID()}`;
  await mkdir(unfinished, { mode: 0o755 });
  try {
    await make(unfinished);
    // Of processes that prepare at once one wins, and all clusters are equal.
    await rename(unfinished, kept).catch(() => {});
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

async function removeOld(shelf: string): Promise<void> {
  for (const name of await readdir(shelf)) {
    const path = join(shelf, name);
    const made = await stat(path).catch(() => undefined);
    if (made && Date.now() - made.mtimeMs > KEPT_MS) await rm(path, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
