/**
 * Every variable that exists, by its name in the environment: one table from which loading, `.env.example`, the docs and
 * the generated tests are made. A name belongs to the service with the longest matching name: all of
 * CONCIERGE_NOTIFICATION_SENDER_* is notification-sender's, never notification's.
 */
import { platformShape } from "./platform.ts";
import type { ConfigShape, Variable } from "./variable.ts";

/** The section of the platform's variables. */
export const PLATFORM = "concierge";
/** The variable that holds the path of the YAML file. */
export const CONFIG_FILE_VARIABLE = "CONCIERGE_CONFIG";

export interface RegistryEntry {
  /** e.g. CONCIERGE_AUTH_DATABASE_URL */
  name: string;
  /** e.g. auth; `concierge` for the platform's */
  service: string;
  /** e.g. databaseUrl */
  key: string;
  variable: Variable<unknown>;
}

export type Registry = Map<string, RegistryEntry>;
export type ServiceShapes = Record<string, ConfigShape>;

/** `databaseUrl` -> `DATABASE_URL`, `notification-sender` -> `NOTIFICATION_SENDER`. */
export function snakeCase(text: string): string {
  return text
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll("-", "_")
    .toUpperCase();
}

/** The service that a name belongs to. */
export function serviceOf(name: string, serviceNames: string[]): string {
  const owners = serviceNames.filter((service) => name.startsWith(`CONCIERGE_${snakeCase(service)}_`));
  return owners.sort((a, b) => b.length - a.length)[0] ?? PLATFORM;
}

/** Builds the table; throws a plain Error for a declaration whose variable could never be reached. */
export function registryOf(services: ServiceShapes): Registry {
  const registry: Registry = new Map();
  const sections = { [PLATFORM]: platformShape as ConfigShape, ...services };
  for (const [service, shape] of Object.entries(sections)) {
    const prefix = service === PLATFORM ? "CONCIERGE_" : `CONCIERGE_${snakeCase(service)}_`;
    for (const [key, variable] of Object.entries(shape)) {
      const name = prefix + snakeCase(key);
      const isTaken = registry.has(name) || name === CONFIG_FILE_VARIABLE;
      if (isTaken || serviceOf(name, Object.keys(services)) !== service) {
        throw new Error(`the variable ${name} of ${service}.${key} belongs to another service or key: rename the key`);
      }
      registry.set(name, { name, service, key, variable });
    }
  }
  for (const name of registry.keys()) {
    if (registry.has(`${name}_FILE`))
      throw new Error(`${name}_FILE is also the name for the file of ${name}: rename one`);
  }
  return registry;
}

/** One variable as documentation shows it. */
export interface VariableRow {
  name: string;
  service: string;
  secret: boolean;
  /** The default as one would write it; undefined when there is none. */
  default: string | undefined;
  description: string;
  required: boolean;
}

/** Every variable, the platform's first, then by service in the given order. */
export function describeVariables(services: ServiceShapes): VariableRow[] {
  const file: VariableRow = {
    name: CONFIG_FILE_VARIABLE,
    service: PLATFORM,
    secret: false,
    default: undefined,
    description: "Path of a YAML file with one section for each service and one named concierge",
    required: false,
  };
  return [file, ...[...registryOf(services).values()].map(describeVariable)];
}

function describeVariable({ name, service, variable }: RegistryEntry): VariableRow {
  const missing = variable.type.safeParse(undefined);
  const value = missing.data;
  return {
    name,
    service,
    secret: variable.secret !== undefined,
    default: value === undefined ? undefined : Array.isArray(value) ? value.join(",") : String(value),
    description: variable.description,
    required: !missing.success,
  };
}

/** The text of `.env.example`: required variables to fill in, the others as comments with their default. */
export function renderEnvExample(rows: VariableRow[]): string {
  const lines = [
    "# Every variable, generated from the services' config.ts.",
    "# Order: default < YAML file (CONCIERGE_CONFIG) < environment < <VARIABLE>_FILE (a file that holds the value).",
  ];
  let service = "";
  for (const row of rows) {
    if (row.service !== service) lines.push("", `## ${row.service}`);
    service = row.service;
    const marks = [row.required ? "required" : "", row.secret ? "secret" : ""].filter((mark) => mark !== "");
    lines.push("", `# ${row.description}${marks.length === 0 ? "" : ` (${marks.join(", ")})`}`);
    lines.push(row.required ? `${row.name}=` : `#${row.name}=${row.default ?? ""}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Every secret variable, for tests that generate one case for each. */
export function secretVariables(services: ServiceShapes): RegistryEntry[] {
  return [...registryOf(services).values()].filter((entry) => entry.variable.secret !== undefined);
}
