/** `concierge keys ...`: makes the keys that services know each other by, and those that sign access tokens. */
import { ExitCode, StartupError } from "../errors.ts";
import { services } from "../services.ts";
import { addCaller, changeSigningKeys, initKeys, isReservedParty, type KeyStep } from "../token/key-folder.ts";
import { calleesOf } from "../token/key-making.ts";
import type { SigningAlgorithm } from "../token/signing-keys.ts";
import type { Host } from "./host.ts";

const ALGORITHMS: SigningAlgorithm[] = ["ES256", "EdDSA", "RS256"];
const CALLER_NAME = /^[a-z][a-z0-9-]{1,62}$/;

export async function makeKeys(host: Host, folder: string, algorithm: string): Promise<void> {
  report(host, folder, await initKeys(folder, services, algorithmOf(algorithm)));
}

/** What is to be done after each step. Verifiers fetch the published keys once a minute. */
const NEXT: Record<KeyStep, string> = {
  publish: "restart auth, one process after the other; a minute later, activate it",
  activate: "restart auth again; when the last token of the old key has expired (five minutes), retire it",
  retire: "restart auth once more; what the old keys have signed is refused from then on",
};

export async function rotateKeys(host: Host, folder: string, step: KeyStep, algorithm: string): Promise<void> {
  const [signing, ...others] = await changeSigningKeys(folder, step, algorithmOf(algorithm));
  host.print(`signs: ${signing}\n${others.map((kid) => `published: ${kid}\n`).join("")}next: ${NEXT[step]}\n`);
}

function algorithmOf(name: string): SigningAlgorithm {
  const alg = ALGORITHMS.find((candidate) => candidate === name);
  if (!alg) throw new StartupError(`the algorithm must be one of ${ALGORITHMS.join(", ")}`, ExitCode.usage);
  return alg;
}

export async function addForeignCaller(host: Host, folder: string, name: string, callee: string): Promise<void> {
  const callees = calleesOf(services).map((definition) => definition.name);
  if (!callees.includes(callee)) {
    throw new StartupError(`"${callee}" takes no internal calls; these do: ${callees.join(", ")}`, ExitCode.usage);
  }
  const isTaken = isReservedParty(name) || services.some((definition) => definition.name === name);
  if (!CALLER_NAME.test(name) || isTaken) {
    throw new StartupError(
      `"${name}" cannot be a caller's name: lower-case letters, digits and hyphens, and no name of ours`,
      ExitCode.usage,
    );
  }
  report(host, folder, await addCaller(folder, name, callee));
}

function report(host: Host, folder: string, files: string[]): void {
  host.print(files.length === 0 ? `nothing was missing in ${folder}\n` : `wrote ${files.join(", ")} in ${folder}\n`);
}
