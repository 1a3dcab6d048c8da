/**
 * Everything a system needs that is not our own code, made on the spot: a real PostgreSQL with a database and its roles
 * for each service, migrated; keys; and a push stand-in. What is made is kept in one folder, so the next start finds it
 * again.
 */
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { migrate, startError } from "../db/migrate.ts";
import { type DatabaseUrls, dropDatabase, provisionDatabase } from "../db/provision.ts";
import type { ServiceDefinition } from "../service.ts";
import { initKeys, OPERATOR, readServiceKeys, readSigningKeys, readTokenKeys } from "../token/key-folder.ts";
import { allDone } from "./all-done.ts";
import { identityOf, startPushStandIn } from "./push-stand-in.ts";
import { readState, type State } from "./state.ts";
import { systemVariables } from "./variables.ts";

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
  /** Where the push stand-in listens, and shows what it accepted. */
  pushUrl: string;
  demoAccount: { email: string; password: string };
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
    await startPushStandIn({
      ledgerFile,
      clock,
      serviceAccount: identityOf(state.serviceAccount),
      projectId: state.serviceAccount.project_id,
    }),
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
    pushUrl: push.url,
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
