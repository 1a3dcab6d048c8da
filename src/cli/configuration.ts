/** Loads the configuration of a process from its environment, and says what it was told to accept. */
import { readFileSync, statSync } from "node:fs";
import {
  type ConfigShape,
  type Configuration,
  describeVariables,
  loadConfig,
  renderEnvExample,
  type ServiceShapes,
} from "../config.ts";
import type { DatabaseUrls } from "../db/provision.ts";
import { ExitCode, StartupError } from "../errors.ts";
import type { ServiceDefinition } from "../service.ts";
import { services } from "../services.ts";
import type { Host } from "./host.ts";

const OWNER_VARIABLES = ["databaseUrl", "databaseOwnerUrl", "databaseJobUrl"] as const;

/** Every service's variables, by service. */
export const serviceShapes: ServiceShapes = Object.fromEntries(services.map(({ name, config }) => [name, config]));

export function configurationOf(
  env: Record<string, string | undefined>,
  definitions: ServiceDefinition[],
): Configuration<ServiceShapes> {
  return load(env, serviceShapes, definitions);
}

function load(env: Record<string, string | undefined>, shapes: ServiceShapes, definitions: ServiceDefinition[]) {
  return loadConfig({
    env,
    readFile: (path) => readFileSync(path, "utf8"),
    stat: statSync,
    services: shapes,
    start: definitions.map(({ name }) => name),
  });
}

/** The databases of these services, from the only variables that changing a schema needs, and whatever else is set. */
export function databaseConfigurationOf(
  env: Record<string, string | undefined>,
  definitions: ServiceDefinition[],
): ({ name: string; values: Record<string, unknown> } & DatabaseUrls)[] {
  // Whoever migrates need not be trusted with keys: every other variable may be missing.
  const shapes = Object.fromEntries(
    Object.entries(serviceShapes).map(([service, shape]) => [service, withNeeded(shape, OWNER_VARIABLES)]),
  );
  const { services: values } = load(env, shapes, definitions);
  return definitions.map(({ name }) => {
    const own = values[name] as Record<(typeof OWNER_VARIABLES)[number], string>;
    return {
      name,
      values: own,
      ownerUrl: own.databaseOwnerUrl,
      runtimeUrl: own.databaseUrl,
      jobUrl: own.databaseJobUrl,
    };
  });
}

/** The same variables, of which only these must be there. */
function withNeeded(shape: ConfigShape, needed: readonly string[]): ConfigShape {
  const entries = Object.entries(shape).map(([key, variable]) => {
    const { type } = variable;
    if (!needed.includes(key)) return [key, { ...variable, type: type.optional() }];
    return [key, { ...variable, type: type.refine((value) => value !== undefined) }];
  });
  return Object.fromEntries(entries);
}

/** The services with these names; all of them for an empty list. */
export function servicesNamed(names: string[]): ServiceDefinition[] {
  if (names.length === 0) return services;
  return [...new Set(names)].map((name) => {
    const definition = services.find((candidate) => candidate.name === name);
    if (definition) return definition;
    const known = services.map((candidate) => candidate.name).join(", ");
    throw new StartupError(`there is no service "${name}"; there are ${known}`, ExitCode.usage);
  });
}

/** The same, of which each must have a database; all that have one for an empty list. */
export function servicesWithDatabase(names: string[]): ServiceDefinition[] {
  const definitions = servicesNamed(names);
  const without = definitions.find(({ hasDatabase }) => !hasDatabase);
  if (names.length > 0 && without) throw new StartupError(`${without.name} has no database`, ExitCode.usage);
  return definitions.filter(({ hasDatabase }) => hasDatabase);
}

/** `concierge config`: every variable with its default, as .env.example. */
export function printVariables(host: Host): void {
  host.print(renderEnvExample(describeVariables(serviceShapes)));
}
