/**
 * concierge/testing: a real Concierge for the tests of whoever calls it, with every service and a PostgreSQL of its own, and people
 * and organizations made in one line. Nothing is pushed, mailed or left behind, and it ends with its process, however that ends.
 */
import { enableCompileCache } from "node:module";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { AccessInternalService, AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { MemberRole } from "../../gen/concierge/organization/v1/organization_pb.ts";
import { OrganizationService } from "../../gen/concierge/organization/v1/organization_service_pb.ts";
import { connectService, type ServiceConnection } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { importServer } from "../server-packages.ts";
import type { Addresses } from "./consumer-system.ts";
import { mailTo, tokenIn } from "./mails.ts";
import { openOwnFolder } from "./own-folder.ts";
import { logIn, newUser, type TestUser, type UserDetails, userTransport } from "./people.ts";

export type { TestUser, UserDetails } from "./people.ts";

export interface ConciergeOptions {
  /** Variables of Concierge beside the usual ones, such as CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS. Such a system is never shared. */
  variables?: Record<string, string>;
}

export interface TestOrganization {
  organizationId: string;
  /** Its access token names the organization. */
  owner: TestUser;
}

export interface MemberDetails extends UserDetails {
  /** Names such as "orders:read"; those that Concierge does not know are added to it. None unless told otherwise. */
  permissions?: readonly string[];
  /** The only branch in which the permissions count; everywhere unless told otherwise. */
  branchId?: string;
}

export interface Concierge extends AsyncDisposable {
  readonly publicUrl: string;
  readonly internalUrl: string;
  readonly restUrl: string;
  readonly issuer: string;
  /** The text of a key file, for createAuthClient(): the keys of the caller "backend" towards every service. */
  readonly keys: string;
  /** Registers somebody and logs in. */
  newUser(details?: UserDetails): Promise<TestUser>;
  /** Makes an organization, and its owner. */
  newOrganization(details?: { name?: string }): Promise<TestOrganization>;
  /** Adds a new member, with these permissions; the access token names the organization. */
  newMember(organization: TestOrganization, details?: MemberDetails): Promise<TestUser>;
  /** The same person in another session, in this organization or in none. */
  login(user: TestUser, organizationId?: string): Promise<TestUser>;
  /** The URL of a new, empty database for tables of your own. It is gone with the system. */
  newDatabase(): Promise<string>;
  /** A client of a public service, with an access token or without. */
  asUser<Desc extends DescService>(desc: Desc, accessToken?: string): Client<Desc>;
  /** A client of an internal service, signed as the caller "backend". */
  asBackend<Desc extends DescService>(desc: Desc): Client<Desc>;
  /** The same as disposing. A system that globalSetup() started goes on. */
  stop(): Promise<void>;
}

/** How the system of globalSetup() is known to the processes of test files. */
const SHARED_VARIABLE = "CONCIERGE_TESTING";

/**
 * Resolves when every service answers. Takes a few seconds; where globalSetup() has started a system for the whole run, this uses
 * that one instead, at once. Throws a StartupError that names the packages to install, if some are missing.
 */
export async function startConcierge({ variables }: ConciergeOptions = {}): Promise<Concierge> {
  const shared = process.env[SHARED_VARIABLE];
  if (shared !== undefined && variables === undefined) return conciergeAt(JSON.parse(shared), async () => {});
  const system = await startSystem(variables);
  return conciergeAt(system, () => system[Symbol.asyncDispose]());
}

let runs: (Addresses & AsyncDisposable) | undefined;

/** One system for all test files: `node --test --test-global-setup=setup.js`, where setup.js exports this and globalTeardown(). */
export async function globalSetup(): Promise<void> {
  runs = await startSystem();
  process.env[SHARED_VARIABLE] = JSON.stringify(runs);
}

export async function globalTeardown(): Promise<void> {
  delete process.env[SHARED_VARIABLE];
  await runs?.[Symbol.asyncDispose]();
  runs = undefined;
}

async function startSystem(variables: Record<string, string> = {}): Promise<Addresses & AsyncDisposable> {
  // Compiling the server's 800 modules takes nearly half of the time that they need to load. What is kept of them is run: Node's own
  // place for it may be anybody's.
  const compiled = await openOwnFolder("concierge-modules");
  if (compiled !== undefined) enableCompileCache(compiled);
  const { startSystem } = await importServer(() => import("./consumer-system.ts"));
  return startSystem(variables);
}

async function newDatabase(databasesUrl: string): Promise<string> {
  const { makeDatabase } = await importServer(() => import("./consumer-system.ts"));
  return makeDatabase(databasesUrl);
}

function conciergeAt({ keys, databasesUrl, ...addresses }: Addresses, end: () => PromiseLike<void>): Concierge {
  const backend = new BackendClients(addresses.internalUrl, keys);
  const asUser: Concierge["asUser"] = (desc, accessToken) =>
    createClient(desc, userTransport(addresses.publicUrl, accessToken));
  const asBackend: Concierge["asBackend"] = (desc) => backend.client(desc);
  const calls = { asUser, asBackend, internalUrl: addresses.internalUrl };
  let stopped: PromiseLike<void> | undefined;
  const stop = async () => {
    backend[Symbol.dispose]();
    stopped ??= end();
    await stopped;
  };
  return {
    ...addresses,
    ...calls,
    keys: JSON.stringify({ keys }),
    newUser: (details) => newUser(asUser(AuthService), details),
    newOrganization: (details) => newOrganization(calls, details),
    newMember: (organization, details) => newMember(calls, organization, details),
    newDatabase: () => newDatabase(databasesUrl),
    login: (user, organizationId) => logIn(asUser(AuthService), user, organizationId),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

type Calls = Pick<Concierge, "asUser" | "asBackend" | "internalUrl">;

async function newOrganization({ asUser }: Calls, { name = "Bakery" } = {}): Promise<TestOrganization> {
  const auth = asUser(AuthService);
  const owner = await newUser(auth);
  const organizations = asUser(OrganizationService, owner.accessToken);
  const { organization } = await organizations.createOrganization({ name, slug: `test-${crypto.randomUUID()}` });
  const { organizationId } = organization!;
  return { organizationId, owner: await logIn(auth, owner, organizationId) };
}

async function newMember(
  calls: Calls,
  { organizationId, owner }: TestOrganization,
  { permissions = [], branchId = "", ...details }: MemberDetails = {},
): Promise<TestUser> {
  const { asUser } = calls;
  const auth = asUser(AuthService);
  const { email, password } = await newUser(auth, details);
  const { text } = await mailTo(calls, email, "Confirm your e-mail address");
  await auth.verifyEmail({ token: tokenIn(text), password });
  const { userId, accessToken } = await logIn(auth, { email, password });
  const invite = { email, role: MemberRole.MEMBER };
  const { invitation } = await asUser(OrganizationService, owner.accessToken).inviteMember(invite);
  const { invitationId } = invitation!;
  const accepted = await asUser(OrganizationService, accessToken).acceptInvitation({ invitationId });
  const headers = { "consistency-token": accepted.consistencyToken };
  const access = asUser(AccessService, owner.accessToken);
  for (const permission of permissions) {
    await addPermission(calls, permission);
    await access.grantPermission({ userId, permission, branchId }, { headers });
  }
  return logIn(auth, { email, password }, organizationId);
}

async function addPermission({ asBackend }: Calls, name: string): Promise<void> {
  try {
    await asBackend(AccessInternalService).createPermission({ name });
  } catch (error) {
    if (ConnectError.from(error).code !== Code.AlreadyExists) throw error;
  }
}

/** Clients of the internal listener, with one connection for each service, all closed at the end. */
class BackendClients implements Disposable {
  readonly #baseUrl: string;
  readonly #keys: Addresses["keys"];
  readonly #connections = new Map<string, ServiceConnection>();

  constructor(baseUrl: string, keys: Addresses["keys"]) {
    this.#baseUrl = baseUrl;
    this.#keys = keys;
  }

  client<Desc extends DescService>(desc: Desc): Client<Desc> {
    // The older contract, auth.AuthService, is auth's, too.
    const callee = desc.typeName.replace(/^concierge\./, "").split(".")[0]!;
    let connection = this.#connections.get(callee);
    if (!connection) {
      const key = this.#keys.find((candidate) => candidate.callee === callee);
      if (!key) throw new Error(`${desc.typeName} is not a service that takes calls from backends`);
      connection = connectService({ baseUrl: this.#baseUrl, key, clock: systemClock });
      this.#connections.set(callee, connection);
    }
    return connection.client(desc);
  }

  [Symbol.dispose](): void {
    for (const connection of this.#connections.values()) connection[Symbol.dispose]();
    this.#connections.clear();
  }
}
