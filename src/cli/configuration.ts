/** Loads the configuration of a process from its environment, and says what it was told to accept. */
import { readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Configuration, loadConfig, type ServiceShapes } from "../config.ts";
import { ExitCode, StartupError } from "../errors.ts";
import type { ServiceDefinition } from "../service.ts";
import { services } from "../services.ts";

/** The folder with the migrations, shipped beside the code. */
export const migrationsFolder = fileURLToPath(new URL("../../drizzle", import.meta.url));

/** Every service's variables, by service. */
export const serviceShapes: ServiceShapes = Object.fromEntries(services.map(({ name, config }) => [name, config]));

export function configurationOf(
  env: Record<string, string | undefined>,
  definitions: ServiceDefinition[],
): Configuration<ServiceShapes> {
  return loadConfig({
    env,
    readFile: (path) => readFileSync(path, "utf8"),
    stat: statSync,
    services: serviceShapes,
    start: definitions.map(({ name }) => name),
  });
}

/** The services with these names; all of them for an empty list. */
export function servicesNamed(names: string[]): ServiceDefinition[] {
  if (names.length === 0) return services;
  return names.map((name) => {
    const definition = services.find((candidate) => candidate.name === name);
    if (definition) return definition;
    const known = services.map((candidate) => candidate.name).join(", ");
    throw new StartupError(`there is no service "${name}"; there are ${known}`, ExitCode.usage);
  });
}
