/**
 * Configuration: every service declares its variables once (src/services/<service>/config.ts) and gets them back typed.
 * Order: default < YAML file < environment < `<VARIABLE>_FILE`. Whatever is unknown, wrong or unsafe for the mode stops
 * the start before a port is opened, all problems in one message, by name and never by value.
 */

import { type Mode, type PlatformConfig, platformConfig, type platformShape, riskKey } from "./config/platform.ts";
import { PLATFORM, type RegistryEntry, registryOf, type ServiceShapes, snakeCase } from "./config/registry.ts";
import { type ConfigInput, type Found, readSources } from "./config/sources.ts";
import { weaknessOf } from "./config/strength.ts";
import type { Refusal, ValuesOf } from "./config/variable.ts";
import { ExitCode, StartupError } from "./errors.ts";

export { httpUrl, linkUrl, peerUrl, reachOf } from "./config/network.ts";
export type { Mode, PlatformConfig } from "./config/platform.ts";
export {
  describeVariables,
  PLATFORM,
  renderEnvExample,
  type ServiceShapes,
  secretVariables,
  serviceOf,
  snakeCase,
} from "./config/registry.ts";
export { type KeyRing, secret } from "./config/secret.ts";
export type { ConfigInput } from "./config/sources.ts";
export {
  type ConfigShape,
  list,
  notInProduction,
  type SecretKind,
  setting,
  type ValuesOf,
} from "./config/variable.ts";
export type { ServiceKey } from "./token/service-token.ts";

/** The values of one process. `services` holds the started services only. */
export interface Configuration<S extends ServiceShapes, N extends keyof S = keyof S> {
  readonly platform: PlatformConfig;
  readonly services: { readonly [K in N]: ValuesOf<S[K]> };
  /** The risk flags that are set, to be logged at WARN each hour. */
  readonly acceptedRisks: readonly { name: string; description: string }[];
}

export interface LoadOptions<S extends ServiceShapes, N extends keyof S> extends ConfigInput {
  services: S;
  /** The services this process runs: a missing value of another one is no problem; a wrong value always is. */
  start: readonly N[];
}

/** One variable with the value it got; `value` is undefined when none was set and there is no default. */
interface Loaded {
  entry: RegistryEntry;
  found: Found | undefined;
  value: unknown;
}

/** Loads and checks everything, or throws one StartupError (exit 78) with a line for each problem. */
export function loadConfig<S extends ServiceShapes, N extends keyof S & string>(
  options: LoadOptions<S, N>,
): Configuration<S, N> {
  const registry = registryOf(options.services);
  const sources = readSources(registry, Object.keys(options.services), options);
  const problems = [...sources.problems];
  const started = new Set<string>([PLATFORM, ...options.start]);

  const loaded: Loaded[] = [];
  for (const entry of registry.values()) {
    const found = sources.values.get(entry.name);
    const parsed = entry.variable.type.safeParse(found?.value);
    if (parsed.success) loaded.push({ entry, found, value: parsed.data });
    else if (found !== undefined) problems.push(...describeIssues(entry, parsed.error.issues));
    else if (started.has(entry.service) && !isReported(entry.name, sources.problems))
      problems.push(`${entry.name} is missing`);
  }
  problems.push(...portProblems(loaded));
  // A mode that could not be read is checked as production: closed by default.
  const mode = (valueIn(loaded, PLATFORM, "mode") ?? "production") as Mode;
  if (mode !== "development")
    problems.push(...loaded.flatMap((one) => unsafeValue(one, mode, loaded)), ...doubleUse(loaded));
  if (problems.length > 0) throw refusal(problems);
  return assemble(loaded, options.start);
}

function refusal(problems: string[]) {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  return new StartupError(
    `configuration refused, ${count}:\n${problems.map((line) => `  ${line}`).join("\n")}`,
    ExitCode.config,
  );
}

/** A variable whose file was refused is not also reported as missing. */
function isReported(name: string, problems: string[]) {
  return problems.some((problem) => problem.startsWith(`${name}_FILE `) || problem.startsWith(`${name} `));
}

interface Issue {
  code?: string;
  path: readonly PropertyKey[];
  message: string;
}

/**
 * A line for each issue. Keys are input too, so a path shows its numbers only, and unknown keys are not named.
 */
function describeIssues(entry: RegistryEntry, issues: readonly Issue[]): string[] {
  const lines = issues.map((issue) => {
    const index = issue.path.find((step) => typeof step === "number");
    const place = index === undefined ? "" : `, entry ${Number(index) + 1}`;
    const text = issue.code === "unrecognized_keys" ? "has an unknown field" : issue.message;
    return `${entry.name}${place}: ${text}`;
  });
  return [...new Set(lines)];
}

function valueIn(loaded: Loaded[], service: string, key: string) {
  return loaded.find(({ entry }) => entry.service === service && entry.key === key)?.value;
}

/** Both listeners on one port would put the internal methods where the public ones are. */
function portProblems(loaded: Loaded[]): string[] {
  const publicPort = valueIn(loaded, PLATFORM, "publicPort");
  if (publicPort === undefined || publicPort === 0 || publicPort !== valueIn(loaded, PLATFORM, "internalPort"))
    return [];
  return ["CONCIERGE_INTERNAL_PORT must differ from CONCIERGE_PUBLIC_PORT"];
}

/** What demo and production refuse about one value. */
function unsafeValue({ entry, found, value }: Loaded, mode: Mode, loaded: Loaded[]): string[] {
  const { name, service, variable } = entry;
  const problems: string[] = [];
  if (variable.secret !== undefined && found?.isWorldReadable) {
    problems.push(`${name} stands in a file that every user can read: take away the permission (chmod o-r)`);
  }
  const answer = variable.production?.(value);
  const refused = typeof answer === "string" ? { problem: answer } : answer;
  if (refused !== undefined && !isAccepted(refused, mode, loaded))
    problems.push(`${name} ${refused.problem}${remedy(refused)}`);
  for (const material of variable.keyMaterial?.(value, { service, name }) ?? []) {
    const weakness = weaknessOf(material);
    if (weakness !== undefined) problems.push(`${name}${material.part === "" ? "" : `: ${material.part}`} ${weakness}`);
  }
  return problems;
}

function isAccepted(refused: Refusal, mode: Mode, loaded: Loaded[]) {
  if (mode === "demo" && refused.allowedInDemo) return true;
  return refused.risk !== undefined && valueIn(loaded, PLATFORM, riskKey(refused.risk)) === "accepted";
}

function remedy(refused: Refusal) {
  return refused.risk === undefined ? "" : `; or take the risk: CONCIERGE_${snakeCase(riskKey(refused.risk))}=accepted`;
}

/** One secret in two places: whoever gets one of them gets both. */
function doubleUse(loaded: Loaded[]): string[] {
  const seen = new Map<string, { name: string; identity: string }>();
  const problems = new Set<string>();
  for (const { entry, value } of loaded) {
    const { name, service, variable } = entry;
    for (const { bytes, identity } of variable.keyMaterial?.(value, { service, name }) ?? []) {
      const content = Buffer.from(bytes).toString("base64");
      const other = seen.get(content);
      if (other === undefined) seen.set(content, { name, identity });
      else if (other.identity !== identity) problems.add(`${name} uses the same secret as ${other.name}`);
    }
  }
  return [...problems];
}

function assemble<S extends ServiceShapes, N extends keyof S & string>(loaded: Loaded[], start: readonly N[]) {
  const section = (service: string) =>
    Object.fromEntries(
      loaded.filter(({ entry }) => entry.service === service).map(({ entry, value }) => [entry.key, value]),
    );
  const risks = loaded.filter(({ entry, value }) => entry.name.startsWith("CONCIERGE_RISK_") && value === "accepted");
  return {
    platform: platformConfig(section(PLATFORM) as ValuesOf<typeof platformShape>),
    services: Object.fromEntries(start.map((service) => [service, section(service)])) as Configuration<
      S,
      N
    >["services"],
    acceptedRisks: risks.map(({ entry }) => ({ name: entry.name, description: entry.variable.description })),
  };
}
