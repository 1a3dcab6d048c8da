/**
 * A PostgreSQL that a proof may kill: durable as in production, in a folder that the proof gives it, at one port for all of its lives.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EmbeddedPostgres, startPostgres } from "../dev/postgres.ts";
import { run } from "../dev/postgres-account.ts";
import { findPlace } from "../dev/postgres-folder.ts";

export interface DatabaseServer extends AsyncDisposable {
  /** The superuser's URL, with the password inside. */
  readonly adminUrl: string;
  readonly dataFolder: string;
  /** `pg_ctl stop -m immediate`: as if it had been killed; resolves when no process of it is left. */
  crash(): Promise<void>;
  /** `pg_ctl stop -m fast`: in order. */
  stop(): Promise<void>;
  /** Resolves when it has recovered and answers queries. */
  start(): Promise<void>;
}

/** A folder that goes in the end. A root process runs the server as another account, which must get in. */
export async function makeFolder(opened: AsyncDisposableStack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "concierge-prove-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  await chmod(folder, 0o755);
  return folder;
}

/** Starts it in a folder; disposing stops it. */
export async function openDatabaseServer(folder: string): Promise<DatabaseServer> {
  const { account, binaries } = await findPlace(folder, undefined);
  let server: EmbeddedPostgres = await startPostgres({ folder });
  const { url: adminUrl, dataFolder } = server;
  const stop = async (mode: "immediate" | "fast") => {
    await run(join(binaries.folder, "pg_ctl"), ["stop", "-m", mode, "-D", dataFolder], account);
  };
  return {
    adminUrl,
    dataFolder,
    crash: () => stop("immediate"),
    stop: () => stop("fast"),
    async start() {
      server = await startPostgres({ folder, port: Number(new URL(adminUrl).port) });
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
