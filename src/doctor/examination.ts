/** The whole examination: the configuration first, since everything else is found by it; then all checks side by side. */
import type { Clock } from "../clock.ts";
import type { Configuration, ServiceShapes } from "../config.ts";
import { ExitCode } from "../errors.ts";
import type { ServiceDefinition, ServiceValues } from "../service.ts";
import { certificateChecks } from "./certificate.ts";
import { clockChecks } from "./clock.ts";
import { configurationLines, refusalLines } from "./configuration.ts";
import { databaseChecks } from "./database.ts";
import { type Line, runChecks, type Subject } from "./finding.ts";
import { firebaseChecks } from "./firebase.ts";
import { kafkaChecks } from "./kafka.ts";
import { keyChecks } from "./keys.ts";
import { mailChecks } from "./mail.ts";
import { peerChecks } from "./peers.ts";
import { redisChecks } from "./redis.ts";

const SUBJECTS: Subject[] = [
  databaseChecks,
  clockChecks,
  keyChecks,
  peerChecks,
  certificateChecks,
  redisChecks,
  kafkaChecks,
  firebaseChecks,
  mailChecks,
];

export interface ExaminationOptions {
  definitions: ServiceDefinition[];
  /** Whether they run in one process, as `concierge serve` runs those that it is given together. */
  isOneProcess: boolean;
  /** Loads the configuration of these services, or throws a StartupError. */
  load(): Configuration<ServiceShapes>;
  migrationsFolder: string;
  clock: Clock;
}

/** Examines services. Never throws for what it finds. */
export async function examineServices({ load, ...options }: ExaminationOptions): Promise<Line[]> {
  let configuration: Configuration<ServiceShapes>;
  try {
    configuration = load();
  } catch (error) {
    return refusalLines(error);
  }
  const { platform } = configuration;
  const context = { ...options, platform, services: configuration.services as Record<string, ServiceValues> };
  const lines = await runChecks(SUBJECTS.flatMap((checksOf) => checksOf(context)));
  return [...configurationLines(configuration), ...lines];
}

/** What a command ends with that found this: what is not fit to start with comes before what is not there. */
export function exitCodeOf(lines: Line[]): ExitCode {
  const codes = lines.map(({ exitCode }) => exitCode);
  const order: ExitCode[] = [ExitCode.config, ExitCode.unavailable, ExitCode.failure];
  return order.find((code) => codes.includes(code)) ?? ExitCode.ok;
}
