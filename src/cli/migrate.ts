/** `concierge migrate` and `concierge migrate-down`: the only commands that change a schema, with the owner's role. */
import { DatabaseUnavailable } from "../db/errors.ts";
import { migrate, migrateDown, planMigrations } from "../db/migrate.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { databaseConfigurationOf, servicesWithDatabase } from "./configuration.ts";
import { openDevelopment } from "./development.ts";
import type { Host } from "./host.ts";

interface MigrateSettings {
  /** Use the databases of the development folder instead of those that the environment names. */
  development: boolean;
  folder: string;
}

/** Applies what is not applied yet, service by service; all of those with a database for an empty list. */
export async function migrateUp(
  host: Host,
  names: string[],
  { plan, ...settings }: MigrateSettings & { plan: boolean },
): Promise<void> {
  await using databases = await databasesOf(host, names, settings);
  const work = plan ? planMigrations : migrate;
  for (const { name, ...target } of databases.targets) {
    const series = ["platform", name];
    const options = { ...target, series, folder: MIGRATIONS_FOLDER, signal: host.stop };
    const { pending, ahead } = await named(name, work(options));
    if (ahead.length > 0) host.print(`${name}: ahead of this release by expansions: ${ahead.join(", ")}\n`);
    const files = pending.map(({ file, isExpansion }) => (plan && isExpansion ? `${file} (expansion)` : file));
    const done =
      files.length === 0 ? "nothing left to apply" : `${plan ? "would apply" : "applied"} ${files.join(", ")}`;
    host.print(`${name}: ${done}\n`);
  }
}

/** Undoes the newest migration of one service. */
export async function migrateDownOne(host: Host, name: string, settings: MigrateSettings): Promise<void> {
  await using databases = await databasesOf(host, [name], settings);
  for (const { ownerUrl, runtimeRole } of databases.targets) {
    const options = { ownerUrl, runtimeRole, series: name, folder: MIGRATIONS_FOLDER, signal: host.stop };
    host.print(`${name}: undid ${await named(name, migrateDown(options))}\n`);
  }
}

interface Target {
  name: string;
  ownerUrl: string;
  runtimeRole: string;
  jobRole: string | undefined;
}

async function databasesOf(
  host: Host,
  names: string[],
  { development, folder }: MigrateSettings,
): Promise<AsyncDisposable & { targets: Target[] }> {
  const definitions = servicesWithDatabase(names);
  await using opened = new AsyncDisposableStack();
  const env = development
    ? {
        CONCIERGE_MODE: "development",
        ...opened.use(await openDevelopment(host, folder, { migrates: false })).variables,
      }
    : host.env;
  const targets = databaseConfigurationOf(env, definitions).map(({ name, ownerUrl, runtimeUrl, jobUrl }) => {
    return { name, ownerUrl, runtimeRole: roleOf(runtimeUrl), jobRole: jobUrl && roleOf(jobUrl) };
  });
  const resources = opened.move();
  return { targets, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

/** The role that a URL logs in as. */
export function roleOf(url: string): string {
  return decodeURIComponent(new URL(url).username);
}

/** Says of whose database an error speaks. */
export async function named<T>(service: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof DatabaseUnavailable) {
      throw new StartupError(`${service}: ${error.message}`, ExitCode.unavailable, { cause: error });
    }
    if (error instanceof StartupError) throw new StartupError(`${service}: ${error.message}`, error.exitCode);
    throw error;
  }
}
