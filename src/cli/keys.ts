/** `concierge keys ...`: makes the keys that services know each other by, and those that sign access tokens. */
import { ExitCode, StartupError } from "../errors.ts";
import { services } from "../services.ts";
import { addCaller, initKeys, isReservedParty } from "../token/key-folder.ts";
import { calleesOf } from "../token/key-making.ts";
import type { SigningAlgorithm } from "../token/signing-keys.ts";
import type { Host } from "./host.ts";

const ALGORITHMS: SigningAlgorithm[] = ["ES256", "EdDSA", "RS256"];
const CALLER_NAME = /^[a-z][a-z0-9-]{1,62}$/;

export async function makeKeys(host: Host, folder: string, algorithm: string): Promise<void> {
  const alg = ALGORITHMS.find((candidate) => candidate === algorithm);
  if (!alg) throw new StartupError(`the algorithm must be one of ${ALGORITHMS.join(", ")}`, ExitCode.usage);
  report(host, folder, await initKeys(folder, services, alg));
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
