/**
 * Everything a system needs that is not our own code, made on the spot: a real PostgreSQL with a database and its roles
 * for each service, migrated; keys; and a push stand-in. What is made is kept in one folder, so the next start finds it
 * again.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { migrate, startError } from "../db/migrate.ts";
import { type DatabaseUrls, dropDatabase, provisionDatabase } from "../db/provision.ts";
import type { ServiceDefinition } from "../service.ts";
import {
  initKeys,
  OPERATOR,
  readSecret,
  readServiceKeys,
  readSigningKeys,
  readTokenKeys,
  writeSecret,
} from "../token/key-folder.ts";
import { allDone } from "./all-done.ts";
import { createServiceAccount, identityOf, type ServiceAccountKey, startPushStandIn } from "./push-stand-in.ts";
import { systemVariables } from "./variables.ts";

const PROJECT = "concierge-dev";

export interface EnvironmentOptions {
  /** Where everything is kept; ignored by git. */
  folder: string;
  /** The PostgreSQL to use, with the URL of a role that may make databases and roles; disposed with the environment. */
  server: { url: string } & AsyncDisposable;
  /** False where databases and roles must go in the end, because the server stays. */
  keepsDatabases: boolean;
  /** What names of databases and roles begin with. */
  prefix: string;
  definitions: ServiceDefinition[];
  migrationsFolder: string;
  /** False leaves the schemas as they are, for the commands that change them. */
  migrates: boolean;
  clock: Clock;
  signal: AbortSignal;
}

export interface Environment extends AsyncDisposable {
  /** For loadConfig(), or for the environment of a process. Several are secrets. */
  variables: Record<string, string>;
  /** The operator's key for each callee. */
  operatorKeys: ServiceKey[];
  /** Where the push stand-in writes what it accepted. */
  ledgerFile: string;
  demoAccount: { email: string; password: string };
}

/** What is made once and kept. */
interface State {
  passwords: Record<string, { owner: string; runtime: string; job: string }>;
  demoAccount: { email: string; password: string };
  serviceAccount: ServiceAccountKey;
}

export async function openEnvironment(options: EnvironmentOptions): Promise<Environment> {
  const { folder, definitions, clock, server } = options;
  await using opened = new AsyncDisposableStack();
  opened.use(server);
  const keysFolder = join(folder, "keys");
  const ledgerFile = join(folder, "pushes.jsonl");
  const [state] = await allDone([readState(folder, definitions), initKeys(keysFolder, definitions, "ES256")]);
  options.signal.throwIfAborted();
  const push = opened.use(
    await startPushStandIn({ ledgerFile, clock, serviceAccount: identityOf(state.serviceAccount), projectId: PROJECT }),
  );
  // Before anything is made, so that what a failure leaves half made goes, too.
  if (!options.keepsDatabases) opened.defer(() => dropEverything(options));
  const databases = await prepareDatabases(state, options);
  const parties = [...definitions.map(({ name }) => name), OPERATOR];
  const rings = await Promise.all(parties.map((party) => readServiceKeys(keysFolder, party)));
  const serviceKeys = [...new Map(rings.flat().map((key) => [key.kid, key])).values()];
  const resources = opened.move();
  return {
    variables: systemVariables({
      definitions,
      databases,
      serviceKeys,
      signingKeys: await readSigningKeys(keysFolder),
      tokenKeys: await readTokenKeys(keysFolder),
      push: { credentials: JSON.stringify(state.serviceAccount), endpoint: push.url },
    }),
    operatorKeys: serviceKeys.filter(({ kind }) => kind === "operator"),
    ledgerFile,
    demoAccount: state.demoAccount,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function dropEverything({ server, definitions, prefix }: EnvironmentOptions): Promise<void> {
  for (const { name } of definitions.filter(({ hasDatabase }) => hasDatabase)) {
    const { database, ownerRole, runtimeRole, jobRole } = namesOf(prefix, name);
    await dropDatabase(server.url, database, [ownerRole, runtimeRole, jobRole]);
  }
}

function namesOf(prefix: string, service: string) {
  const database = `${prefix}${service}`;
  return { database, ownerRole: `${database}_owner`, runtimeRole: database, jobRole: `${database}_job` };
}

async function readState(folder: string, definitions: ServiceDefinition[]): Promise<State> {
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

function newPassword(): string {
  return randomBytes(24).toString("base64url");
}

/** A database and its roles for each service that stores something, with every migration applied if wanted. */
async function prepareDatabases(
  state: State,
  { server, definitions, prefix, migrationsFolder, migrates, signal }: EnvironmentOptions,
): Promise<Record<string, DatabaseUrls>> {
  const named = definitions.filter(({ hasDatabase }) => hasDatabase);
  const entries = named.map(async ({ name, hasTenants }) => {
    const { owner, runtime, job: password } = state.passwords[name]!;
    const { jobRole: role, ...names } = namesOf(prefix, name);
    const job = hasTenants ? { role, password } : undefined;
    const plan = { ...names, ownerPassword: owner, runtimePassword: runtime, job };
    const urls = await provisionDatabase(server.url, plan).catch((error: unknown) => {
      throw startError(error);
    });
    const roles = { runtimeRole: names.runtimeRole, jobRole: job?.role };
    const series = ["platform", name];
    if (migrates) await migrate({ ownerUrl: urls.ownerUrl, ...roles, series, folder: migrationsFolder, signal });
    return [name, urls] as const;
  });
  return Object.fromEntries(await allDone(entries));
}
