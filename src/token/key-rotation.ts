/**
 * Changes keys while everything runs, in three steps, between which processes are started again in any order: `publish`
 * adds a key that everybody may know before it is used, `activate` puts it to use, `retire` drops all others. A step
 * that broke off is taken again.
 */
import { readdir } from "node:fs/promises";
import type { ServiceKey } from "../config.ts";
import {
  isPartyFile,
  readServiceKeys,
  readSigningKeys,
  readTokenKeys,
  writeServiceKeys,
  writeSigningKeys,
  writeTokenKeys,
} from "./key-folder.ts";
import { createServiceKey, createSigningKeys, createTokenKeys, madeAt } from "./key-making.ts";
import type { SigningAlgorithm } from "./signing-keys.ts";

export type KeyStep = "publish" | "activate" | "retire";

/** Who calls whom. */
export type Pair = Pick<ServiceKey, "caller" | "callee">;

/** Takes a step with the keys that sign access tokens. Returns their names, the signing one first. */
export async function changeSigningKeys(folder: string, step: KeyStep, alg: SigningAlgorithm): Promise<string[]> {
  const { keys } = await readSigningKeys(folder);
  const changed = await keysAfter(keys, step, async () => (await createSigningKeys(alg)).keys[0]!);
  await writeSigningKeys(folder, { keys: changed });
  return changed.map(({ kid }) => kid);
}

/**
 * Takes a step with the keys that refresh tokens and mailed tokens are derived with. Returns their names, the one in
 * use first.
 */
export async function changeTokenKeys(folder: string, step: KeyStep): Promise<string[]> {
  const { keys } = await readTokenKeys(folder);
  const changed = await keysAfter(keys, step, () => createTokenKeys().keys[0]!);
  await writeTokenKeys(folder, { keys: changed });
  return changed.map(({ kid }) => kid);
}

/** Every pair that has a key in this folder and that is wanted, foreign callers' and the operator's, too. */
export async function pairsIn(folder: string, isWanted: (pair: Pair) => boolean = () => true): Promise<Pair[]> {
  const files = (await readdir(folder)).filter(isPartyFile).sort();
  const rings = await Promise.all(files.map((file) => readServiceKeys(folder, file.slice(0, -".json".length))));
  const pairs = new Map(rings.flat().map(({ caller, callee }) => [`${caller} ${callee}`, { caller, callee }]));
  return [...pairs.values()].filter(isWanted);
}

/**
 * Takes a step with the keys of pairs. The callee's file is written first, so that nobody finds a key to sign with that
 * the callee could not know; the caller's says which one signs.
 */
export async function changePairKeys(folder: string, step: KeyStep, pairs: Pair[]): Promise<void> {
  for (const pair of pairs) {
    const isOfPair = ({ caller, callee }: ServiceKey) => caller === pair.caller && callee === pair.callee;
    const ofCaller = (await readServiceKeys(folder, pair.caller)).filter(isOfPair);
    const ofCallee = (await readServiceKeys(folder, pair.callee)).filter(isOfPair);
    const known = ofCallee.filter(({ kid }) => !ofCaller.some((key) => key.kid === kid));
    const keys = [...ofCaller, ...known];
    const changed = await keysAfter(keys, step, () => createServiceKey(pair.caller, pair.callee, keys[0]!.kind));
    for (const party of [pair.callee, pair.caller]) {
      const others = (await readServiceKeys(folder, party)).filter((key) => !isOfPair(key));
      await writeServiceKeys(folder, party, [...others, ...changed]);
    }
  }
}

/**
 * The keys after a step, the one in use first. A step that was taken changes nothing: only the newest key is ever put
 * to use.
 */
async function keysAfter<Key extends { kid: string }>(
  keys: Key[],
  step: KeyStep,
  make: () => Key | Promise<Key>,
): Promise<Key[]> {
  const newest = keys.reduce((found, key) => (madeAt(key.kid) > madeAt(found.kid) ? key : found));
  switch (step) {
    case "publish":
      return newest === keys[0] ? [...keys, await make()] : keys;
    case "activate":
      return [newest, ...keys.filter((key) => key !== newest)];
    case "retire":
      return keys.slice(0, 1);
  }
}
