/** `concierge migrate` and `concierge migrate-down`: the only commands that change a schema, with the owner's role. */
import { migrate, migrateDown } from "../db/migrate.ts";
import { ExitCode, StartupError } from "../errors.ts";
import type { ServiceValues } from "../service.ts";
import { configurationOf, migrationsFolder, servicesNamed } from "./configuration.ts";
import { openDevelopment } from "./development.ts";
import type { Host } from "./host.ts";

interface MigrateSettings {
  /** Use the databases of the development folder instead of those that the environment names. */
  development: boolean;
  folder: string;
}

/** Applies what is not applied yet, service by service; all of those with a database for an empty list. */
export async function migrateUp(host: Host, names: string[], settings: MigrateSettings): Promise<void> {
  await using databases = await databasesOf(host, names, settings);
  for (const { name, ownerUrl, runtimeRole } of databases.targets) {
    const series = ["platform", name];
    const applied = await migrate({ ownerUrl, runtimeRole, series, folder: migrationsFolder, signal: host.stop });
    host.print(`${name}: ${applied.length === 0 ? "nothing left to apply" : `applied ${applied.join(", ")}`}\n`);
  }
}

/** Undoes the newest migration of one service. */
export async function migrateDownOne(host: Host, name: string, settings: MigrateSettings): Promise<void> {
  await using databases = await databasesOf(host, [name], settings);
  for (const { ownerUrl, runtimeRole } of databases.targets) {
    const options = { ownerUrl, runtimeRole, series: name, folder: migrationsFolder, signal: host.stop };
    host.print(`${name}: undid ${await migrateDown(options)}\n`);
  }
}

interface Target {
  name: string;
  ownerUrl: string;
  runtimeRole: string;
}

async function databasesOf(
  host: Host,
  names: string[],
  { development, folder }: MigrateSettings,
): Promise<AsyncDisposable & { targets: Target[] }> {
  const definitions = servicesNamed(names).filter(({ hasDatabase }) => hasDatabase);
  await using opened = new AsyncDisposableStack();
  const env = development ? opened.use(await openDevelopment(host, folder)).variables : host.env;
  const { services } = configurationOf(env, definitions);
  const targets = definitions.map(({ name }) => targetOf(name, services[name]!));
  const resources = opened.move();
  return { targets, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

function targetOf(name: string, config: ServiceValues): Target {
  const ownerUrl = config.databaseOwnerUrl;
  if (ownerUrl === undefined) {
    throw new StartupError(`${name} has no databaseOwnerUrl, which migrating needs`, ExitCode.config);
  }
  return { name, ownerUrl, runtimeRole: decodeURIComponent(new URL(config.databaseUrl!).username) };
}
