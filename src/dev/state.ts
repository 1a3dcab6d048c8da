/**
 * What a system made on the spot keeps between two starts, beside its keys: passwords of database roles, the account of
 * the demo, and the account that pushes. One file, readable by its owner only.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { ServiceDefinition } from "../service.ts";
import { readSecret, writeSecret } from "../token/key-folder.ts";
import { createServiceAccount, type ServiceAccountKey } from "./push-stand-in.ts";

const PROJECT = "concierge-dev";

export interface State {
  passwords: Record<string, { owner: string; runtime: string; job: string }>;
  demoAccount: { email: string; password: string };
  serviceAccount: ServiceAccountKey;
}

/** The secrets of a development folder; those that are missing are made. */
export async function readState(folder: string, definitions: ServiceDefinition[]): Promise<State> {
  const file = join(folder, "state.json");
  const found = (await readSecret(file)) as State | undefined;
  const state = found ?? (await newState());
  const missing = definitions.filter(({ name, hasDatabase }) => hasDatabase && !state.passwords[name]?.job);
  if (found && missing.length === 0) return state;
  for (const { name } of missing) {
    const made = { owner: newPassword(), runtime: newPassword(), job: newPassword() };
    state.passwords[name] = { ...made, ...state.passwords[name] };
  }
  await writeSecret(file, state);
  return state;
}

async function newState(): Promise<State> {
  return {
    passwords: {},
    demoAccount: { email: "demo@example.com", password: newPassword() },
    serviceAccount: await createServiceAccount(PROJECT),
  };
}

/** 24 random bytes, which need no escaping in a URL. */
export function newPassword(): string {
  return randomBytes(24).toString("base64url");
}
