/**
 * A PostgreSQL that archives its log, a base backup of it that is taken while it works, and clusters that are made of both: by
 * what every PostgreSQL has, without pg_basebackup. Whatever runs, runs at one place with the same passwords.
 */
import { chmod, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "../db/connection.ts";
import { type EmbeddedPostgres, startPostgres } from "../dev/postgres.ts";
import { type Account, run } from "../dev/postgres-account.ts";
import { findPlace } from "../dev/postgres-folder.ts";
import { until } from "../testing/until.ts";

/** What a killed server has handed to the system is not lost. */
const SETTINGS = { fsync: "off", max_wal_size: "512MB" };
const PROMOTION_TIMEOUT_MS = 60_000;
/** Files that come and go while they are copied are in the log. */
const BACKUP = `
tar -C "$1" --exclude='./pg_wal/*' --exclude=./postmaster.pid --exclude=./postmaster.opts -cf "$2" . || [ $? -eq 1 ]
`;
const ARCHIVE_REST = `
for file in "$1"/pg_wal/0*; do test -f "$2/\${file##*/}" || cp "$file" "$2"; done
`;
const RESTORE = `
mkdir -m 700 -p "$2" && tar -C "$2" -xf "$1" && printf %s "$3" > "$2/backup_label" && touch "$2/recovery.signal"
`;

/** The cluster that runs. */
export interface Cluster extends AsyncDisposable {
  /** Superuser's. */
  readonly url: string;
  /** Takes the base backup. Resolves to its label. */
  backUp(): Promise<string>;
  /** Kills it. What it had not archived yet is archived: the disk is still there. */
  lose(): Promise<void>;
}

/** Starts the first cluster in a folder that everybody may enter. restore() makes another one, once none runs there. */
export async function openArchive(folder: string) {
  for (const name of ["archive", "clusters"]) {
    await mkdir(join(folder, name));
    await chmod(join(folder, name), 0o777);
  }
  const archive = join(folder, "archive");
  const backup = join(folder, "clusters", "backup.tar");
  const { account } = await findPlace(join(folder, "first"), undefined);
  const archiving = { archive_mode: "on", archive_command: `test ! -f ${archive}/%f && cp %p ${archive}/%f` };
  const first = await startPostgres({ folder: join(folder, "first"), settings: { ...SETTINGS, ...archiving } });
  const place = { folder, archive, backup, account, port: Number(new URL(first.url).port) };
  return { first: clusterOf(first, place), restore: (label: string, target?: string) => restore(place, label, target) };
}

interface Place {
  folder: string;
  archive: string;
  /** File of the base backup. */
  backup: string;
  account: Account | undefined;
  port: number;
}

function clusterOf(server: EmbeddedPostgres, { archive, backup, account }: Place): Cluster {
  const { url, dataFolder } = server;
  return {
    url,
    async backUp() {
      const sql = connect(url, { applicationName: "concierge-prove" });
      try {
        await sql`select pg_backup_start('drill', fast => true)`;
        await shell(BACKUP, [dataFolder, backup], account);
        const [stopped] = await sql<{ labelfile: string }[]>`select labelfile from pg_backup_stop()`;
        return stopped!.labelfile;
      } finally {
        await sql.end({ timeout: 1 });
      }
    },
    async lose() {
      const [pid] = (await readFile(join(dataFolder, "postmaster.pid"), "utf8")).split("\n");
      process.kill(Number(pid), "SIGQUIT");
      await server[Symbol.asyncDispose]();
      await shell(ARCHIVE_REST, [dataFolder, archive], account);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Up to a named restore point, or to the end of the log. */
async function restore(place: Place, label: string, target: string | undefined): Promise<Cluster> {
  const { account, archive, backup, port } = place;
  const folder = join(place.folder, "clusters", target ?? "latest");
  const data = join(folder, "cluster", "data");
  await shell(RESTORE, [backup, data, label], account);
  const password = join(place.folder, "first", "cluster", "password");
  await shell('cp "$1" "$2"', [password, join(folder, "cluster", "password")], account);
  const recovery = {
    restore_command: `cp ${archive}/%f %p`,
    recovery_target_action: "promote",
    ...(target !== undefined && { recovery_target_name: target }),
  };
  const server = await startPostgres({ folder, port, settings: { ...SETTINGS, ...recovery } });
  const sql = connect(server.url, { applicationName: "concierge-prove" });
  try {
    const isPromoted = async () => (await sql`select pg_is_in_recovery() as it`)[0]!.it === false;
    await until("it takes writes", isPromoted, PROMOTION_TIMEOUT_MS);
  } finally {
    await sql.end({ timeout: 1 });
  }
  return clusterOf(server, place);
}

async function shell(script: string, parameters: string[], account: Account | undefined): Promise<void> {
  await run("/bin/sh", ["-c", script, "sh", ...parameters], account);
}
