/**
 * The system under test, for real: the services as they run in production, on free ports, over databases of their own, with
 * the real Firebase SDK against the push stand-in, and a clock that only the test moves. What is left open at the end
 * fails the test.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { decodeJwt } from "jose";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService, type ServiceConnection } from "../client/service-client.ts";
import { type Clock, systemClock } from "../clock.ts";
import { loadConfig, type ServiceKey } from "../config.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import {
  createServiceAccount,
  identityOf,
  type LedgerEntry,
  readLedger,
  startPushStandIn,
} from "../dev/push-stand-in.ts";
import { systemVariables } from "../dev/variables.ts";
import { createLogger } from "../log.ts";
import { type RunningServer, startServer } from "../server.ts";
import type { ServiceDefinition } from "../service.ts";
import { services as allServices } from "../services.ts";
import { signAccessToken } from "../token/access-token.ts";
import { calleesOf, createServiceKey, createSigningKeys, createTokenKeys, pairsOf } from "../token/key-making.ts";
import { createSigner, type KeySet } from "../token/signing-keys.ts";
import { createTestClock, type TestClock } from "./clock.ts";
import { setDatabaseOffset, type TestDatabase, testDatabase } from "./cluster.ts";
import { newUser, type TestUser, type UserDetails, userTransport } from "./people.ts";

export type { TestUser } from "./people.ts";

export interface TestSystemOptions {
  /** All services unless told otherwise; one of them may be another than the real one of its name. */
  definitions?: ServiceDefinition[];
  /** Variables beside or instead of the usual ones, such as CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS. */
  variables?: Record<string, string>;
  /** One new key unless told otherwise. */
  signingKeys?: KeySet;
  /** Keys beside the usual ones: each pair of the contract, and an operator and a backend for each callee. */
  extraKeys?: ServiceKey[];
  /** Of services that shall have others than new ones; disposed with the system. */
  databases?: Record<string, TestDatabase>;
  /** Stands still unless told otherwise; one that runs is for clients with clocks of their own. */
  clock?: TestClock;
}

export interface TestSystem extends AsyncDisposable {
  readonly publicUrl: string;
  readonly internalUrl: string;
  readonly server: RunningServer;
  /** Stands still until advance() moves it, together with the clocks of all databases. */
  readonly clock: Clock;
  advance(ms: number): Promise<void>;
  readonly serviceKeys: ServiceKey[];
  readonly signingKeys: KeySet;
  /** The key of the service account that pushes, as Google hands it out: JSON. */
  readonly pushCredentials: string;
  /** The database of a service. */
  database(service: string): TestDatabase;
  /** A client of the public listener, with an access token or without. */
  asUser<Desc extends DescService>(desc: Desc, accessToken?: string): Client<Desc>;
  /** An access token that names an organization, as after a refresh that chose it. */
  memberToken(user: TestUser, organizationId: string): string;
  /** A client of the public listener, or that of a replica, for a person who acts in an organization. */
  asMember<Desc extends DescService>(
    desc: Desc,
    user: TestUser,
    organizationId: string,
    replica?: RunningServer,
  ): Client<Desc>;
  /** A client of the internal listener that signs as `caller`: a service, "operator" or "backend". */
  asService<Desc extends DescService>(desc: Desc, caller: string, callee: string): Client<Desc>;
  /** The key of a pair. */
  keyOf(caller: string, callee: string): ServiceKey;
  /** Registers somebody and logs in: an artist, if there is a stage name. */
  newUser(details?: UserDetails): Promise<TestUser>;
  /** What the push stand-in accepted. */
  pushes(): Promise<LedgerEntry[]>;
  /**
   * Another server of the same services, or some of them, over the same databases and keys, for its caller to dispose. Variables
   * may be given beside or instead of the system's own; an empty one counts as not set.
   */
  startReplica(variables?: Record<string, string>, definitions?: ServiceDefinition[]): Promise<RunningServer>;
  /** Log lines so far of all replicas, parsed. */
  readonly logLines: Record<string, unknown>[];
}

const PROJECT = "concierge-test";
let serviceAccount: ReturnType<typeof createServiceAccount> | undefined;

/** One service alone, with its database; the services it calls are not there. */
export function startTestService(definition: ServiceDefinition, options: TestSystemOptions = {}): Promise<TestSystem> {
  return startTestSystem({ ...options, definitions: [definition] });
}

/** Every service in one process, ready for calls. */
export async function startTestSystem(options: TestSystemOptions = {}): Promise<TestSystem> {
  const definitions = options.definitions ?? allServices;
  const clock = options.clock ?? createTestClock();
  await using opened = new AsyncDisposableStack();
  const push = await openPush(opened);
  const databases = await openDatabases(definitions, options.databases, opened);
  const serviceKeys = [...contractKeys(), ...(options.extraKeys ?? [])];
  const signingKeys = options.signingKeys ?? (await createSigningKeys("ES256"));
  const parts = {
    definitions: beside(definitions),
    databases,
    serviceKeys,
    signingKeys,
    tokenKeys: createTokenKeys(),
    push,
  };
  const { startReplica, logLines } = replicasOf(definitions, clock, {
    CONCIERGE_MODE: "development",
    CONCIERGE_PUBLIC_PORT: "0",
    CONCIERGE_INTERNAL_PORT: "0",
    CONCIERGE_REQUESTS_PER_SECOND: "0", // tests make thousands of calls from one address
    CONCIERGE_CALLS_PER_ADDRESS: "1000",
    CONCIERGE_AUTH_ATTEMPTS_PER_ADDRESS: "0", // and hundreds of accounts
    CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false", // who registers logs in at once, in any mode
    ...systemVariables(parts),
    ...options.variables,
  });
  const server = opened.use(await startReplica());
  // A service alone never gets ready while those it waits for are missing; its test decides what to wait for.
  if (definitions.length > 1) await server.ready;
  const clients = opened.use(new ClientSet(server, clock, serviceKeys));
  const memberToken = (user: TestUser, organizationId: string) => {
    const { iss: issuer, gen, auth_time, exp } = decodeJwt<{ gen: number; auth_time: number }>(user.accessToken);
    const times = { authenticatedAt: auth_time, expiresAt: exp! };
    const claims = { ...user, organizationId, generation: gen, ...times };
    return signAccessToken(createSigner(signingKeys), { issuer: issuer!, clock }, claims);
  };
  const resources = opened.move();
  return {
    publicUrl: server.publicUrl,
    internalUrl: server.internalUrl,
    ...{ server, clock, serviceKeys, signingKeys, startReplica, logLines, pushCredentials: push.credentials },
    ...databaseAccess(databases, clock),
    ...callers(clients, serviceKeys),
    memberToken,
    asMember: (desc, user, organizationId, replica = server) => {
      return createClient(desc, userTransport(replica.publicUrl, memberToken(user, organizationId)));
    },
    pushes: () => readLedger(push.ledgerFile),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** A push stand-in that takes the account of this process, with a ledger of its own. */
async function openPush(opened: AsyncDisposableStack) {
  const folder = await mkdtemp(join(tmpdir(), "concierge-push-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const ledgerFile = join(folder, "ledger.jsonl");
  serviceAccount ??= createServiceAccount(PROJECT);
  const account = await serviceAccount;
  const { url } = opened.use(
    await startPushStandIn({ ledgerFile, clock: systemClock, serviceAccount: identityOf(account), projectId: PROJECT }),
  );
  return { ledgerFile, credentials: JSON.stringify(account), endpoint: url };
}

/** Servers with these variables, which may be changed for each, and what all of them log. */
function replicasOf(definitions: ServiceDefinition[], clock: Clock, variables: Record<string, string>) {
  const logLines: Record<string, unknown>[] = [];
  const log = createLogger({
    level: "debug",
    mode: "development",
    clock,
    destination: { write: (line) => void logLines.push(JSON.parse(line)) },
  });
  const startReplica = (changes: Record<string, string> = {}, some = definitions) => {
    const configuration = configurationOf({ ...variables, ...changes }, some);
    return startServer({ ...configuration, definitions: some, migrationsFolder: MIGRATIONS_FOLDER, clock, log });
  };
  return { startReplica, logLines };
}

function databaseAccess(databases: Record<string, TestDatabase>, clock: TestClock) {
  let offsetMs = 0;
  return {
    async advance(ms: number) {
      offsetMs += ms;
      clock.advance(ms);
      await Promise.all(Object.values(databases).map(({ ownerUrl }) => setDatabaseOffset(ownerUrl, offsetMs)));
    },
    database(service: string) {
      const database = databases[service];
      if (!database) throw new Error(`${service} has no database here`);
      return database;
    },
  };
}

function callers(
  clients: ClientSet,
  keys: ServiceKey[],
): Pick<TestSystem, "asUser" | "asService" | "keyOf" | "newUser"> {
  return {
    asUser: (desc, accessToken) => clients.asUser(desc, accessToken),
    asService: (desc, caller, callee) => clients.asService(desc, caller, callee),
    keyOf: (caller, callee) => findKey(keys, caller, callee),
    newUser: (details) => newUser(clients.asUser(AuthService), details),
  };
}

function configurationOf(env: Record<string, string>, definitions: ServiceDefinition[]) {
  return loadConfig({
    env,
    readFile: () => "",
    stat: () => ({ mode: 0o600 }),
    services: Object.fromEntries(beside(definitions).map(({ name, config }) => [name, config])),
    start: definitions.map(({ name }) => name),
  });
}

/** These, and the real ones of all other names. */
function beside(definitions: ServiceDefinition[]): ServiceDefinition[] {
  return allServices.map((real) => definitions.find(({ name }) => name === real.name) ?? real);
}

/** A key for each pair of the contract, and for an operator and a backend of each callee. */
function contractKeys(): ServiceKey[] {
  const callees = calleesOf(allServices);
  return [
    ...pairsOf(allServices).map(({ caller, callee }) => createServiceKey(caller, callee, "service")),
    ...callees.map(({ name }) => createServiceKey("operator", name, "operator")),
    ...callees.map(({ name }) => createServiceKey("backend", name, "backend")),
  ];
}

async function openDatabases(
  definitions: ServiceDefinition[],
  given: Record<string, TestDatabase> = {},
  opened: AsyncDisposableStack,
) {
  const named = definitions.filter(({ hasDatabase }) => hasDatabase);
  const pairs = named.map(async ({ name }) => {
    return [name, opened.use(given[name] ?? (await testDatabase(["platform", name])))] as const;
  });
  return Object.fromEntries(await Promise.all(pairs));
}

function findKey(keys: ServiceKey[], caller: string, callee: string): ServiceKey {
  const key = keys.find((candidate) => candidate.caller === caller && candidate.callee === callee);
  if (!key) throw new Error(`there is no key for calls from ${caller} to ${callee}`);
  return key;
}

/** Clients by caller, each pair with one connection, all closed at the end. */
class ClientSet implements Disposable {
  readonly #server: RunningServer;
  readonly #clock: Clock;
  readonly #keys: ServiceKey[];
  readonly #connections = new Map<string, ServiceConnection>();

  constructor(server: RunningServer, clock: Clock, keys: ServiceKey[]) {
    this.#server = server;
    this.#clock = clock;
    this.#keys = keys;
  }

  asUser<Desc extends DescService>(desc: Desc, accessToken?: string): Client<Desc> {
    return createClient(desc, userTransport(this.#server.publicUrl, accessToken));
  }

  asService<Desc extends DescService>(desc: Desc, caller: string, callee: string): Client<Desc> {
    const name = `${caller} ${callee}`;
    let connection = this.#connections.get(name);
    if (!connection) {
      const key = findKey(this.#keys, caller, callee);
      connection = connectService({ baseUrl: this.#server.internalUrl, key, clock: this.#clock });
      this.#connections.set(name, connection);
    }
    return connection.client(desc);
  }

  [Symbol.dispose](): void {
    for (const connection of this.#connections.values()) connection[Symbol.dispose]();
  }
}
