/**
 * The secrets of the system in containers (deploy/compose.yaml), as files that their owner only can read: for each service
 * the one configuration file that its container gets, and what PostgreSQL, its administration, Redis and the push stand-in
 * are given. They are made once and stay; run again, only what is missing or out of date is written.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ServiceDefinition } from "../service.ts";
import { initKeys, readServiceKeys, readSigningKeys, readTokenKeys, writeSecretText } from "../token/key-folder.ts";
import { newPassword, readState, type State } from "./state.ts";

/** Hosts, as deploy/compose.yaml names them. */
const POSTGRES = "postgres:5432";
const REDIS = "redis:6379";
const ADMINISTRATOR = "postgres";

/** Values by key, as in a section of a YAML file that CONCIERGE_CONFIG names. */
type Section = Record<string, unknown>;

/** Returns the files that were written. */
export async function initContainerSecrets(folder: string, definitions: ServiceDefinition[]): Promise<string[]> {
  const keysFolder = join(folder, "keys");
  await initKeys(keysFolder, definitions, "ES256");
  const state = await readState(folder, definitions);
  const postgresPassword = (await readText(join(folder, "postgres-password"))) ?? newPassword();
  const redisPassword = redisPasswordIn(await readText(join(folder, "redis.conf"))) ?? newPassword();
  const texts: Record<string, string> = {
    "postgres-password": postgresPassword,
    "postgres-url": databaseUrl(ADMINISTRATOR, postgresPassword, "postgres"),
    "redis.conf": `requirepass ${redisPassword}`,
    "redis-url": `redis://:${redisPassword}@${REDIS}`,
    "service-account.json": json(state.serviceAccount),
    "databases.json": json(databaseSections(state, definitions)),
  };
  for (const definition of definitions) {
    const section = await sectionOf(definition, keysFolder, state);
    texts[`${definition.name}.json`] = json({ [definition.name]: section });
  }
  return writeChanged(folder, texts);
}

async function sectionOf({ name, hasDatabase, hasTenants }: ServiceDefinition, keysFolder: string, state: State) {
  const section: Section = { serviceKeys: { keys: await readServiceKeys(keysFolder, name) } };
  const urls = databaseUrls(name, state);
  if (hasDatabase) section.databaseUrl = urls.databaseUrl;
  if (hasTenants) section.databaseJobUrl = urls.databaseJobUrl;
  if (name === "auth") {
    section.signingKeys = await readSigningKeys(keysFolder);
    section.tokenKeys = await readTokenKeys(keysFolder);
  }
  if (name === "notification-sender") section.firebaseCredentials = state.serviceAccount;
  return section;
}

/** For those who make databases and change schemas, and nobody else. */
function databaseSections(state: State, definitions: ServiceDefinition[]): Record<string, Section> {
  const named = definitions.filter(({ hasDatabase }) => hasDatabase);
  return Object.fromEntries(
    named.map(({ name, hasTenants }) => {
      const { databaseJobUrl, ...urls } = databaseUrls(name, state);
      return [name, { ...urls, ...(hasTenants && { databaseJobUrl }) }];
    }),
  );
}

function databaseUrls(service: string, { passwords }: State) {
  const { owner = "", runtime = "", job = "" } = passwords[service] ?? {};
  return {
    databaseUrl: databaseUrl(service, runtime, service),
    databaseOwnerUrl: databaseUrl(`${service}_owner`, owner, service),
    databaseJobUrl: databaseUrl(`${service}_job`, job, service),
  };
}

function databaseUrl(role: string, password: string, database: string): string {
  return `postgres://${role}:${password}@${POSTGRES}/${database}`;
}

function redisPasswordIn(settings: string | undefined): string | undefined {
  return /^requirepass (\S+)$/m.exec(settings ?? "")?.[1];
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** A file that stays as it is stays the file that a running container has. */
async function writeChanged(folder: string, texts: Record<string, string>): Promise<string[]> {
  const written: string[] = [];
  for (const [name, text] of Object.entries(texts)) {
    const file = join(folder, name);
    if ((await readText(file)) === text) continue;
    await writeSecretText(file, text);
    written.push(name);
  }
  return written;
}

async function readText(file: string): Promise<string | undefined> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  return text?.trimEnd();
}
