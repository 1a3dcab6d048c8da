/**
 * Where values come from: YAML < environment < file named by `<VARIABLE>_FILE`. Reads text only; nothing is interpreted
 * here, so YAML's 0123 or `no` mean the same as in the environment. An empty value is the same as none.
 * Names are repeated in problems, values and paths never: a secret may stand in the wrong place.
 */
import { parseDocument } from "yaml";
import { CONFIG_FILE_VARIABLE, PLATFORM, type Registry } from "./registry.ts";
import { nearest, suggestion } from "./suggest.ts";

/** What loading needs from outside. */
export interface ConfigInput {
  env: Readonly<Record<string, string | undefined>>;
  /** Reads a text file, or throws. */
  readFile: (path: string) => string;
  /** The file's permission bits, or throws. */
  stat: (path: string) => { mode: number };
}

/** One value as found: text, or lists and maps of text from YAML. */
export interface Found {
  value: unknown;
  /** It came from a file that every user of the machine can read. */
  isWorldReadable: boolean;
}

export interface Sources {
  values: Map<string, Found>;
  /** One line each. */
  problems: string[];
}

const readableByOthers = 0o004;

/** Collects every value that somebody set, and everything that is wrong with how it was set. */
export function readSources(registry: Registry, serviceNames: string[], input: ConfigInput): Sources {
  const sources: Sources = { values: new Map(), problems: [] };
  readYaml(registry, serviceNames, input, sources);
  for (const name of Object.keys(input.env)) {
    if (name.startsWith("CONCIERGE_")) readVariable(name, registry, input, sources);
  }
  return sources;
}

function readVariable(name: string, registry: Registry, input: ConfigInput, { values, problems }: Sources) {
  const text = input.env[name]?.trim() ?? "";
  if (name === CONFIG_FILE_VARIABLE) return;
  if (registry.has(name)) {
    if (text !== "" && !isSet(input.env[`${name}_FILE`])) values.set(name, { value: text, isWorldReadable: false });
    return;
  }
  const base = name.endsWith("_FILE") ? name.slice(0, -"_FILE".length) : "";
  if (!registry.has(base)) {
    problems.push(`${name.replace(/\W/g, "?")} is not a known variable${suggestion(name, registry)}`);
    return;
  }
  if (text === "") return;
  if (isSet(input.env[base])) {
    problems.push(`${base} and ${name} are both set: keep one`);
    return;
  }
  const file = open(text, input);
  if (typeof file === "string") {
    problems.push(`${name} names a file that cannot be read (${file})`);
  } else if (file.text.trim() !== "") {
    values.set(base, { value: file.text.trim(), isWorldReadable: file.isWorldReadable });
  }
}

function readYaml(registry: Registry, serviceNames: string[], input: ConfigInput, { values, problems }: Sources) {
  const path = input.env[CONFIG_FILE_VARIABLE]?.trim() ?? "";
  if (path === "") return;
  const file = open(path, input);
  if (typeof file === "string") {
    problems.push(`${CONFIG_FILE_VARIABLE} names a file that cannot be read (${file})`);
    return;
  }
  const services = [PLATFORM, ...serviceNames];
  for (const [service, section] of Object.entries(parseYaml(file.text, problems))) {
    if (!services.includes(service)) {
      const hint = nearest(service, services.map(asCandidate));
      problems.push(`${CONFIG_FILE_VARIABLE}: ${printable(service)} is not a known section${hint}`);
    } else if (isMap(section)) {
      const { found, unknown } = readSection(service, section, registry);
      for (const [name, value] of found) values.set(name, { value, isWorldReadable: file.isWorldReadable });
      problems.push(...unknown);
    } else if (section !== "") {
      problems.push(`${CONFIG_FILE_VARIABLE}: ${service} must be a map of keys and values`);
    }
  }
}

/** One section's values by variable name, and a line for each key that is no variable's. */
function readSection(service: string, section: Record<string, unknown>, registry: Registry) {
  const entries = [...registry.values()].filter((entry) => entry.service === service);
  const found = new Map<string, unknown>();
  const unknown: string[] = [];
  for (const [key, value] of Object.entries(section)) {
    const entry = entries.find((candidate) => candidate.key === key);
    if (entry === undefined) {
      const hint = nearest(
        key,
        entries.map((candidate) => asCandidate(candidate.key)),
      );
      unknown.push(`${CONFIG_FILE_VARIABLE}: ${service}.${printable(key)} is not a known key${hint}`);
    } else if (value !== "") {
      found.set(entry.name, value);
    }
  }
  return { found, unknown };
}

const asCandidate = (text: string) => ({ text, weight: text.length });

/** The document's sections. A parser's message quotes the text, so only its code and line are passed on. */
function parseYaml(text: string, problems: string[]): Record<string, unknown> {
  const document = parseDocument(text, { schema: "failsafe", logLevel: "silent" });
  const faults = [...document.errors, ...document.warnings];
  for (const fault of faults) {
    const line = fault.linePos?.[0].line;
    problems.push(
      `${CONFIG_FILE_VARIABLE}: not valid YAML (${fault.code}${line === undefined ? "" : `, line ${line}`})`,
    );
  }
  if (faults.length > 0) return {};
  try {
    const content: unknown = document.toJS() ?? {};
    if (isMap(content)) return content;
    problems.push(`${CONFIG_FILE_VARIABLE}: must hold a map of sections`);
  } catch {
    problems.push(`${CONFIG_FILE_VARIABLE}: not valid YAML (alias)`);
  }
  return {};
}

/** The file's text and whether everybody can read it, or the system's error code. */
function open(path: string, input: ConfigInput): { text: string; isWorldReadable: boolean } | string {
  try {
    const isWorldReadable = (input.stat(path).mode & readableByOthers) !== 0;
    return { text: input.readFile(path), isWorldReadable };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    return /^E[A-Z0-9]+$/.test(code) ? code : "error";
  }
}

function isSet(text: string | undefined) {
  return text !== undefined && text.trim() !== "";
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A YAML key as it may be shown: what does not look like one may be a secret in the wrong place. */
function printable(key: string) {
  return /^[A-Za-z][A-Za-z_-]{0,63}$/.test(key) ? key : "(a key that looks like a value)";
}
