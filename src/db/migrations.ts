/**
 * Reads the migration files and compares them with what a database says was applied. A series ("platform", or a
 * service's name) is a folder of `0000_name.sql` files in the order of their numbers; the newest may have a
 * `0000_name.down.sql`.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Sql } from "postgres";
import { ExitCode, StartupError } from "../errors.ts";
import { sqlStateOf } from "./errors.ts";

/** The folder with one folder of migrations for each service, shipped beside the code. */
export const MIGRATIONS_FOLDER = fileURLToPath(new URL("../../drizzle", import.meta.url));

export interface Migration {
  series: string;
  /** The file's name without `.sql`. */
  name: string;
  /** `<series>/<name>.sql`, for messages. */
  file: string;
  statements: string[];
  /** SHA-256 of the text, in hex. */
  checksum: string;
  /** Releases from before it work on the schema it makes. */
  isExpansion: boolean;
}

export type AppliedMigration = Pick<Migration, "series" | "name" | "checksum" | "isExpansion">;

/** What stands between the migration files and a database. */
export interface MigrationPlan {
  /** In the order of application. */
  pending: Migration[];
  /** Files of a newer release that are applied already, and leave room for this one: all of them are expansions. */
  ahead: string[];
  /** What a person must solve first, a line each, with the file's name. */
  problems: string[];
}

/** The table of what is applied. */
export const BOOKKEEPING = `CREATE TABLE IF NOT EXISTS concierge_migration (
  series text NOT NULL,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  is_expansion boolean NOT NULL DEFAULT false,
  PRIMARY KEY (series, name)
)`;

const STATEMENT_BREAKPOINT = "--> statement-breakpoint";
/** The first line of a migration that is an expansion, as in "expand and contract"; a reason may follow a colon. */
const EXPANSION = /^-- expand(:.*)?\r?\n/;
const UNDEFINED_TABLE = "42P01";

/** The up migrations of the series, in order. Throws StartupError for a missing folder or a number used twice. */
export async function readMigrations(folder: string, series: readonly string[]): Promise<Migration[]> {
  return (await Promise.all(series.map((one) => readSeries(folder, one)))).flat();
}

async function readSeries(folder: string, series: string): Promise<Migration[]> {
  const files = await readdir(join(folder, series)).catch(() => undefined);
  if (!files) throw new StartupError(`the migrations folder ${join(folder, series)} cannot be read`, ExitCode.config);
  const names = files
    .filter((file) => /^\d+_.*\.sql$/.test(file) && !file.endsWith(".down.sql"))
    .map((file) => file.slice(0, -".sql".length))
    .sort();
  const numbers = names.map((name) => Number.parseInt(name, 10));
  const twice = names.find((_, index) => index > 0 && numbers[index]! <= numbers[index - 1]!);
  if (twice) {
    throw new StartupError(`${series}/${twice}.sql: its number is used before it: give it the next free one`);
  }
  return Promise.all(names.map((name) => readMigration(folder, series, name)));
}

async function readMigration(folder: string, series: string, name: string): Promise<Migration> {
  const text = await readFile(join(folder, series, `${name}.sql`), "utf8");
  const file = `${series}/${name}.sql`;
  const isExpansion = EXPANSION.test(text);
  return { series, name, file, statements: statementsOf(text), checksum: checksumOf(text), isExpansion };
}

/** The statements that undo a migration; undefined if it has no down script. */
export async function readDownScript(folder: string, migration: AppliedMigration): Promise<string[] | undefined> {
  const path = join(folder, migration.series, `${migration.name}.down.sql`);
  const text = await readFile(path, "utf8").catch(() => undefined);
  return text === undefined ? undefined : statementsOf(text);
}

function statementsOf(text: string): string[] {
  return text
    .split(STATEMENT_BREAKPOINT)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
}

/** Line ends do not count: git may change them on checkout. */
function checksumOf(text: string): string {
  return createHash("sha256").update(text.replaceAll("\r\n", "\n")).digest("hex");
}

/**
 * What the database says was applied in these series, in order; nothing if no migration ever ran. By to_jsonb, because
 * a database of before there were expansions has no such column, and nothing that was one.
 */
export async function readApplied(sql: Sql, series: readonly string[]): Promise<AppliedMigration[]> {
  try {
    return await sql<AppliedMigration[]>`
      select series, name, checksum, coalesce(to_jsonb(m)->>'is_expansion' = 'true', false) as "isExpansion"
      from concierge_migration m where series in ${sql(series)}
      order by series, name collate "C"`;
  } catch (error) {
    if (sqlStateOf(error) === UNDEFINED_TABLE) return [];
    throw error;
  }
}

/** Compares the files with what is applied. A newer history is a problem unless all that is newer are expansions. */
export function comparePlan(files: readonly Migration[], applied: readonly AppliedMigration[]): MigrationPlan {
  const key = ({ series, name }: AppliedMigration) => `${series}/${name}.sql`;
  const appliedByFile = new Map(applied.map((row) => [key(row), row]));
  const known = new Set(files.map(({ file }) => file));
  const unknown = applied.filter((row) => !known.has(key(row)));
  const leavesRoom = (row: AppliedMigration) =>
    row.isExpansion && files.every(({ series, name }) => series !== row.series || name < row.name);
  const problems = unknown
    .filter((row) => !leavesRoom(row))
    .map(
      (row) => `${key(row)}: applied to the database, but there is no such file (a newer release, or a renamed file)`,
    );
  const pending: Migration[] = [];
  for (const migration of files) {
    const row = appliedByFile.get(migration.file);
    const later = applied.find(({ series, name }) => series === migration.series && name > migration.name);
    if (!row && later) problems.push(`${migration.file}: not applied, but the later ${key(later)} is`);
    else if (!row) pending.push(migration);
    else if (row.checksum !== migration.checksum) problems.push(`${migration.file}: edited after it was applied`);
  }
  return { pending, ahead: unknown.filter(leavesRoom).map(key), problems };
}
