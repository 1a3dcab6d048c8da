/** `concierge doctor [service...]`: examines what `concierge serve` would start with, starts nothing, and says what to do. */
import { systemClock } from "../clock.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import { examineServices, exitCodeOf } from "../doctor/examination.ts";
import type { Line } from "../doctor/finding.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { configurationOf, servicesNamed } from "./configuration.ts";
import type { Host } from "./host.ts";

/**
 * Prints a line for each finding. Ends with 78 where something is not fit to start with, with 69 where something is
 * missing.
 */
export async function doctor(host: Host, names: string[], { json }: { json: boolean }): Promise<void> {
  const definitions = servicesNamed(names);
  const lines = await examineServices({
    definitions,
    isOneProcess: names.length > 0,
    load: () => configurationOf(host.env, definitions),
    migrationsFolder: MIGRATIONS_FOLDER,
    clock: systemClock,
  });
  for (const line of lines) host.print(`${json ? JSON.stringify(line) : textOf(line)}\n`);
  const exitCode = exitCodeOf(lines);
  if (exitCode === ExitCode.ok) return;
  const count = lines.filter(({ level }) => level === "problem").length;
  throw new StartupError(`${count === 1 ? "1 problem" : `${count} problems`} found`, exitCode);
}

function textOf({ level, what, finding, remedy }: Line): string {
  return `${level} ${what}: ${finding}${remedy === undefined ? "" : `; ${remedy}`}`;
}
