/** `concierge keys ...`: makes the keys that services know each other by, and those that sign access tokens. */
import { initContainerSecrets } from "../dev/container-secrets.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { services } from "../services.ts";
import { addCaller, initKeys, isReservedParty, OPERATOR } from "../token/key-folder.ts";
import { calleesOf } from "../token/key-making.ts";
import {
  changePairKeys,
  changeSigningKeys,
  changeTokenKeys,
  type KeyStep,
  type Pair,
  pairsIn,
} from "../token/key-rotation.ts";
import type { SigningAlgorithm } from "../token/signing-keys.ts";
import type { Host } from "./host.ts";

const ALGORITHMS: SigningAlgorithm[] = ["ES256", "EdDSA", "RS256"];
const CALLER_NAME = /^[a-z][a-z0-9-]{1,62}$/;

export async function makeKeys(host: Host, folder: string, algorithm: string): Promise<void> {
  report(host, folder, await initKeys(folder, services, algorithmOf(algorithm)));
}

/** What is to be done after each step. Verifiers fetch the published keys once a minute. */
const NEXT_OF_SIGNING: Record<KeyStep, string> = {
  publish: "restart auth, one process after the other; a minute later, activate it",
  activate: "restart auth again; when the last token of the old key has expired (five minutes), retire it",
  retire: "restart auth once more; what the old keys have signed is refused from then on",
};

export async function makeContainerSecrets(host: Host, folder: string): Promise<void> {
  report(host, folder, await initContainerSecrets(folder, services));
}

export async function rotateKeys(host: Host, folder: string, step: KeyStep, algorithm: string): Promise<void> {
  const [signing, ...others] = await changeSigningKeys(folder, step, algorithmOf(algorithm));
  host.print(
    `signs: ${signing}\n${others.map((kid) => `published: ${kid}\n`).join("")}next: ${NEXT_OF_SIGNING[step]}\n`,
  );
}

/** A mail that waits to be sent has its link made by the key of its time; it waits for a day at most. */
const NEXT_OF_TOKENS: Record<KeyStep, string> = {
  publish: "restart auth, one process after the other; then activate it",
  activate: "restart auth again; a day later, retire the old one",
  retire: "restart auth once more",
};

export async function rotateTokenKeys(host: Host, folder: string, step: KeyStep): Promise<void> {
  const [used, ...others] = await changeTokenKeys(folder, step);
  host.print(`in use: ${used}\n${others.map((kid) => `known: ${kid}\n`).join("")}next: ${NEXT_OF_TOKENS[step]}\n`);
}

/** Which pairs: all of a party, those that are named as "caller:callee", or every one. */
export interface PairSelection {
  of?: string;
  pair?: string[];
}

export async function rotatePairs(host: Host, folder: string, step: KeyStep, selection: PairSelection): Promise<void> {
  const { of, pair: named } = selection;
  const isWanted = ({ caller, callee }: Pair) =>
    (of === undefined || caller === of || callee === of) && (!named || named.includes(`${caller}:${callee}`));
  const pairs = await pairsIn(folder, isWanted);
  const missing = named?.find((name) => !pairs.some(({ caller, callee }) => name === `${caller}:${callee}`));
  if (missing !== undefined || pairs.length === 0) {
    throw new StartupError(`${folder} holds no key of ${missing ?? of ?? "any pair"}`, ExitCode.usage);
  }
  await changePairKeys(folder, step, pairs);
  const lines = [
    `${step}: ${pairs.length === 1 ? "1 pair" : `${pairs.length} pairs`}`,
    ...foreignOf(pairs).map((party) => `hand ${party}.json to ${party}`),
    `next: ${nextOfPairs(step, pairs)}`,
  ];
  host.print(`${lines.join("\n")}\n`);
}

/** Callers that have no process of ours to be restarted. */
function foreignOf(pairs: Pair[]): string[] {
  const own = [OPERATOR, ...services.map(({ name }) => name)];
  return [...new Set(pairs.map(({ caller }) => caller))].filter((caller) => !own.includes(caller));
}

/** Callees must know a key before anybody signs with it, and callers have left the old one before callees forget it. */
function nextOfPairs(step: KeyStep, pairs: Pair[]): string {
  const list = (parties: string[]) => {
    const processes = parties.filter((party) => party !== OPERATOR);
    return [...new Set(processes)].sort().join(", ");
  };
  const callees = list(pairs.map(({ callee }) => callee));
  const callers = list(pairs.map(({ caller }) => caller));
  switch (step) {
    case "publish":
      return `restart ${callees}, in any order; when all processes are new, activate it`;
    case "activate":
      return callers === ""
        ? "retire the old one"
        : `restart ${callers}, in any order; when all processes are new, retire the old one`;
    case "retire":
      return `restart ${callees}: what the old keys sign is refused from then on`;
  }
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
