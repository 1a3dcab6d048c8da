/**
 * A session in a file that only its owner may read, for any number of processes of that person. A crash leaves the old
 * content or the new one. Turns are taken by a lock file beside it, which its holder touches while it works: one that is left
 * alone was left by a crash.
 */
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseStored, type SessionStore, type Stored } from "./session-store.ts";

const OWNER_ONLY = 0o600;
const POLL_MS = 20;
const TOUCH_MS = 500;
/** A holder that has not touched its lock for so long is dead, or asleep. */
const ABANDONED_MS = 3_000;

/** Sessions in this file; folders on its way are made. Errors of the file system come as they are. */
export function fileStore(path: string, { abandonedMs = ABANDONED_MS }: { abandonedMs?: number } = {}): SessionStore {
  return {
    read: async () => parseStored(await readOrNothing(path)),
    write: (stored) => replace(path, stored),
    async exclusively(work) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await using _lock = await takeLock(`${path}.lock`, abandonedMs);
      return await work();
    },
  };
}

async function readOrNothing(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function replace(path: string, stored: Stored): Promise<void> {
  const draft = `${path}.${crypto.randomUUID()}`;
  try {
    await using file = await open(draft, "wx", OWNER_ONLY);
    await file.writeFile(JSON.stringify(stored));
    await file.sync();
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

async function takeLock(path: string, abandonedMs: number): Promise<AsyncDisposable> {
  let seen = "";
  let unchangedMs = 0;
  for (;;) {
    const lock = await createLock(path);
    if (lock) return lock;
    const now = await stat(path).then(
      ({ ino, mtimeMs }) => `${ino} ${mtimeMs}`,
      () => "",
    );
    unchangedMs = now === seen ? unchangedMs + POLL_MS : 0;
    seen = now;
    if (unchangedMs >= abandonedMs) await rm(path, { force: true });
    await delay(POLL_MS);
  }
}

/** Undefined if there is one already. */
async function createLock(path: string): Promise<AsyncDisposable | undefined> {
  try {
    const file = await open(path, "wx", OWNER_ONLY);
    const { ino } = await file.stat();
    const touching = setInterval(() => void file.utimes(new Date(), new Date()).catch(() => {}), TOUCH_MS);
    return {
      async [Symbol.asyncDispose]() {
        clearInterval(touching);
        // Somebody may have taken it for abandoned, and have their own there now.
        const isOwn = await stat(path).then(
          (found) => found.ino === ino,
          () => false,
        );
        if (isOwn) await rm(path, { force: true });
        await file.close();
      },
    };
  } catch (error) {
    if (codeOf(error) === "EEXIST") return undefined;
    throw error;
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
