/**
 * The push stand-in's ledger: one JSON line for each accepted push, on disk before the push is answered. It is the
 * truth about what was lost or pushed twice, so a line is written whole or not at all and survives a kill at any
 * moment.
 */
import { mkdir, open, readFile } from "node:fs/promises";
import { dirname } from "node:path";

/** One accepted push. `token` is missing for a push to a topic, a condition or an installation id. */
export interface LedgerEntry {
  /** When it was accepted, RFC 3339 in UTC. */
  time: string;
  /** FCM's name of the message, `projects/<project>/messages/<id>`: what the sender was answered. */
  name: string;
  project: string;
  token?: string;
  /** The whole FCM message as it arrived. */
  message: Record<string, unknown>;
}

export interface Ledger extends AsyncDisposable {
  /** Resolves once the entry is on disk. */
  append(entry: LedgerEntry): Promise<void>;
  /** The newest entries that are on disk, at most 1,000, the newest last. */
  readonly newest: readonly LedgerEntry[];
}

const MOST_IN_MEMORY = 1_000;

/** Opens (and creates, mode 0600) a ledger for appending. A torn last line, never answered, is cut. */
export async function openLedger(file: string): Promise<Ledger> {
  await mkdir(dirname(file), { recursive: true });
  const handle = await open(file, "a", 0o600);
  const content = await readFile(file, "utf8");
  const wholeLines = content.slice(0, content.lastIndexOf("\n") + 1);
  if (wholeLines !== content) await handle.truncate(Buffer.byteLength(wholeLines));
  const newest = wholeLines
    .split("\n")
    .slice(-MOST_IN_MEMORY - 1, -1)
    .map((line) => JSON.parse(line) as LedgerEntry);

  let waiting: string[] = [];
  let flushing: Promise<void> = Promise.resolve();
  let nextFlush: Promise<void> | undefined;
  let closing: Promise<void> | undefined;

  // Everything that arrives during one flush shares the next: one write and one sync for hundreds of lines.
  async function flush(previous: Promise<void>): Promise<void> {
    await previous.catch(() => undefined);
    const lines = waiting.join("");
    waiting = [];
    nextFlush = undefined;
    await handle.appendFile(lines);
    await handle.datasync();
  }

  return {
    newest,
    async append(entry) {
      if (closing) throw new Error("the push ledger is closed");
      waiting.push(`${JSON.stringify(entry)}\n`);
      if (!nextFlush) flushing = nextFlush = flush(flushing);
      await nextFlush;
      newest.push(entry);
      if (newest.length > MOST_IN_MEMORY) newest.shift();
    },
    [Symbol.asyncDispose]() {
      closing ??= flushing.catch(() => undefined).then(() => handle.close());
      return closing;
    },
  };
}

/** Every accepted push, in order; empty for a ledger that does not exist yet. A torn last line is not an entry. */
export async function readLedger(file: string): Promise<LedgerEntry[]> {
  const content = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  const lines = content.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as LedgerEntry);
}
