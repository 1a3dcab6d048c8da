/** `concierge demo --base`: the whole journey once, over a system that runs already. The accounts that it makes stay. */
import { systemClock } from "../clock.ts";
import { runJourney } from "../dev/journey.ts";
import type { LedgerEntry } from "../dev/push-stand-in.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { OPERATOR, readServiceKeys } from "../token/key-folder.ts";
import type { Host } from "./host.ts";

/** Of every container, and of services that share a process. */
const INTERNAL_PORT = "50051";
const TIMEOUT_MS = 5_000;

export interface ElsewhereSettings {
  /** URL of the public listener; `{service}` in it stands for the service's name. The internal one has the same host. */
  base: string;
  /** URL of the push stand-in. */
  pushes?: string;
  /** The folder with the operator's keys. */
  keys: string;
}

export async function demoElsewhere(host: Host, { base, pushes, keys }: ElsewhereSettings): Promise<void> {
  const publicUrl = (service: string) => base.replace("{service}", service);
  if (!URL.canParse(publicUrl("auth"))) throw new StartupError("--base is not a URL", ExitCode.usage);
  if (!pushes || !URL.canParse(pushes)) throw new StartupError("--base needs --pushes, a URL", ExitCode.usage);
  const operatorKeys = await readServiceKeys(keys, OPERATOR);
  if (operatorKeys.length === 0) throw new StartupError(`${keys} has no keys of the ${OPERATOR}`, ExitCode.config);
  await runJourney({
    publicUrl,
    internalUrl: (service) => Object.assign(new URL(publicUrl(service)), { port: INTERNAL_PORT }).origin,
    operatorKeys,
    pushes: () => newestPushes(pushes),
    clock: systemClock,
    print: (line) => host.print(`${line}\n`),
  });
  host.print("The journey is complete.\n");
}

async function newestPushes(standIn: string): Promise<LedgerEntry[]> {
  const answer = await fetch(new URL("/pushes", standIn), { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(`the push stand-in answers ${answer.status}`);
  return ((await answer.json()) as { pushes: LedgerEntry[] }).pushes;
}
