/**
 * Keys as files, one for each party, readable by their owner only: `<party>.json` holds the service keys of a service, of
 * the operator or of a foreign caller, `auth-signing.json` the private keys of access tokens, `auth-tokens.json` those that other
 * tokens are derived with. A pair's key stands in both parties' files and nowhere else.
 */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { KeyRing, ServiceKey } from "../config.ts";
import { ExitCode, StartupError } from "../errors.ts";
import type { ServiceDefinition } from "../service.ts";
import { calleesOf, createServiceKey, createSigningKeys, createTokenKeys, pairsOf } from "./key-making.ts";
import type { KeySet, SigningAlgorithm } from "./signing-keys.ts";

const SIGNING_FILE = "auth-signing.json";
const TOKEN_FILE = "auth-tokens.json";
/** The party that `concierge call` and `concierge token` sign as. */
export const OPERATOR = "operator";

/** True for a name whose file is another thing than a foreign caller's keys. */
export function isReservedParty(name: string): boolean {
  return name === OPERATOR || [SIGNING_FILE, TOKEN_FILE].includes(`${name}.json`);
}

/** Whether a file in the folder of keys holds the service keys of a party. */
export function isPartyFile(name: string): boolean {
  return name.endsWith(".json") && name !== SIGNING_FILE && name !== TOKEN_FILE;
}

/**
 * Makes every key that is missing: each pair of the contract, the operator's for each callee, and auth's own. Keys that are
 * there stay, so it may be run again after an update. Returns the files that were written.
 */
export async function initKeys(
  folder: string,
  definitions: ServiceDefinition[],
  alg: SigningAlgorithm,
): Promise<string[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const wanted = [
    ...pairsOf(definitions).map((pair) => ({ ...pair, kind: "service" as const })),
    ...calleesOf(definitions).map(({ name }) => ({ caller: OPERATOR, callee: name, kind: "operator" as const })),
  ];
  const written = new Set<string>();
  for (const { caller, callee, kind } of wanted) {
    const has = (keys: ServiceKey[]) => keys.some((key) => key.caller === caller && key.callee === callee);
    if (has(await readServiceKeys(folder, caller)) && has(await readServiceKeys(folder, callee))) continue;
    for (const file of await addKey(folder, createServiceKey(caller, callee, kind))) written.add(file);
  }
  for (const [file, make] of [
    [SIGNING_FILE, () => createSigningKeys(alg)],
    [TOKEN_FILE, createTokenKeys],
  ] as const) {
    if (await readSecret(join(folder, file))) continue;
    await writeSecret(join(folder, file), await make());
    written.add(file);
  }
  return [...written].sort();
}

/** Makes a key for a caller that is none of our services, such as a backend of the product. Returns the files written. */
export async function addCaller(folder: string, caller: string, callee: string): Promise<string[]> {
  return addKey(folder, createServiceKey(caller, callee, "backend"));
}

/** The service keys in a party's file; none if there is no file. */
export async function readServiceKeys(folder: string, party: string): Promise<ServiceKey[]> {
  const ring = (await readSecret(join(folder, `${party}.json`))) as { keys: ServiceKey[] } | undefined;
  return ring?.keys ?? [];
}

/** Replaces all keys in a party's file. */
export async function writeServiceKeys(folder: string, party: string, keys: ServiceKey[]): Promise<void> {
  await writeSecret(join(folder, `${party}.json`), { keys });
}

/** The private signing keys. */
export async function readSigningKeys(folder: string): Promise<KeySet> {
  return (await readKeys(folder, SIGNING_FILE)) as KeySet;
}

export async function writeSigningKeys(folder: string, keys: KeySet): Promise<void> {
  await writeSecret(join(folder, SIGNING_FILE), keys);
}

/** The keys that refresh tokens and mailed tokens are derived with. */
export async function readTokenKeys(folder: string): Promise<KeyRing> {
  return (await readKeys(folder, TOKEN_FILE)) as KeyRing;
}

export async function writeTokenKeys(folder: string, keys: KeyRing): Promise<void> {
  await writeSecret(join(folder, TOKEN_FILE), keys);
}

async function readKeys(folder: string, file: string): Promise<unknown> {
  const keys = await readSecret(join(folder, file));
  if (!keys) throw new StartupError(`there is no ${file} in ${folder}: run \`concierge keys init\` first`);
  return keys;
}

/**
 * Puts a key first in the files of both parties: the first key of a pair signs, all of them verify. The callee's file comes
 * first, so that a run that breaks off never leaves a caller signing with a key that nobody knows.
 */
async function addKey(folder: string, key: ServiceKey): Promise<string[]> {
  const files = [];
  for (const party of [key.callee, key.caller]) {
    await writeServiceKeys(folder, party, [key, ...(await readServiceKeys(folder, party))]);
    files.push(`${party}.json`);
  }
  return files;
}

/** What a file of writeSecret() holds; undefined if there is none. Throws a StartupError that names the file, never its text. */
export async function readSecret(file: string): Promise<unknown> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new StartupError(`${file} cannot be read (${error.code})`);
  });
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new StartupError(`${file} is not valid JSON`, ExitCode.config);
  }
}

/** Written whole or not at all, readable by the owner only from the first byte. */
export async function writeSecret(file: string, value: unknown): Promise<void> {
  await writeSecretText(file, JSON.stringify(value, null, 2));
}

/** The same for a text as it is, with a line's end. */
export async function writeSecretText(file: string, text: string): Promise<void> {
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.chmod(0o600);
    await handle.writeFile(`${text}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}
