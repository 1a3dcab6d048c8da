/**
 * What the doctor finds. A check is about one thing, has a time of its own and never throws: what goes wrong in it is a
 * finding, too. Nothing that was read from a secret, and no text of others, is in any.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../clock.ts";
import type { PlatformConfig } from "../config.ts";
import { DatabaseUnavailable } from "../db/errors.ts";
import { ExitCode, StartupError } from "../errors.ts";
import type { ServiceDefinition, ServiceValues } from "../service.ts";

export interface Finding {
  /** A warning is for somebody to look at; with a problem, something does not work. */
  level: "ok" | "warning" | "problem";
  finding: string;
  /** What to do about it. */
  remedy?: string;
  /** Of a problem: what a command that finds it ends with. */
  exitCode?: ExitCode;
}

/** What is examined, and with what. */
export interface DoctorContext {
  definitions: ServiceDefinition[];
  platform: PlatformConfig;
  /** Values of each service's variables, by service. */
  services: Record<string, ServiceValues>;
  /** Whether the services run in one process, as `concierge serve` runs those that it is given together. */
  isOneProcess: boolean;
  migrationsFolder: string;
  clock: Clock;
}

export interface Check {
  /** What it is about, such as "auth database". */
  what: string;
  /** The signal aborts when nobody waits for the findings any more. */
  run(signal: AbortSignal): Promise<Finding[]>;
}

/** The checks of one subject. */
export type Subject = (context: DoctorContext) => Check[];

/** A finding, and what it is about. */
export type Line = Finding & { what: string };

const LIMIT_MS = 5_000;

export function ok(finding: string): Finding {
  return { level: "ok", finding };
}

export function warning(finding: string, remedy: string): Finding {
  return { level: "warning", finding, remedy };
}

/** Configuration, keys or schema are not fit to start with. */
export function unfit(finding: string, remedy?: string): Finding {
  return { level: "problem", finding, remedy, exitCode: ExitCode.config };
}

/** Something that must be there is not. */
export function absent(finding: string, remedy: string): Finding {
  return { level: "problem", finding, remedy, exitCode: ExitCode.unavailable };
}

/** Runs checks side by side; each has five seconds. The lines are in the order of the checks. */
export async function runChecks(checks: Check[], limitMs = LIMIT_MS): Promise<Line[]> {
  const lines = await Promise.all(
    checks.map(async ({ what, run }) => (await limited(run, limitMs)).map((finding) => ({ what, ...finding }))),
  );
  return lines.flat();
}

async function limited(run: Check["run"], limitMs: number): Promise<Finding[]> {
  const ended = new AbortController();
  const late = delay(limitMs, undefined, { signal: ended.signal }).then(() => {
    const remedy = "see whether it is overloaded, or a firewall drops packets";
    return [absent(`no answer within ${limitMs / 1_000} seconds`, remedy)];
  });
  try {
    return await Promise.race([run(ended.signal).catch((error) => [findingOf(error)]), late]);
  } finally {
    late.catch(() => {});
    ended.abort();
  }
}

/** What was thrown, as a finding. Only our own words are passed on. */
function findingOf(error: unknown): Finding {
  if (error instanceof StartupError) {
    return { level: "problem", finding: error.message.replaceAll(/\n\s*/g, " "), exitCode: error.exitCode };
  }
  if (error instanceof DatabaseUnavailable) {
    return absent(error.message, "see whether it runs, and whether its address is right and can be reached from here");
  }
  return { level: "problem", finding: `the check failed${codeOf(error)}`, exitCode: ExitCode.failure };
}

/** The code of an error of the system, in brackets. */
export function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" && /^[A-Z0-9_]{1,60}$/.test(code) ? ` (${code})` : "";
}
