/**
 * The server at production settings, for measurements and floods that no database should be part of: the real listeners,
 * steps and configuration, with services whose users' sessions are all alive. Everything else is as `concierge serve` has it.
 */
import { v7 as uuidv7 } from "uuid";
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import { MIGRATIONS_FOLDER } from "../db/migrations.ts";
import type { Logger } from "../log.ts";
import { NO_REVISIONS } from "../rights/revisions.ts";
import { type Rights, setOf } from "../rights/rights.ts";
import { type RunningServer, startServer } from "../server.ts";
import type { ServiceDefinition, ServiceParts } from "../service.ts";
import { OWN_PERMISSIONS } from "../services/access/permissions.ts";
import { signAccessToken } from "../token/access-token.ts";
import { createSigningKeys } from "../token/key-making.ts";
import { fixedKeyRing } from "../token/key-ring.ts";
import type { SessionCheck } from "../token/session-check.ts";
import { createSigner, type KeySet } from "../token/signing-keys.ts";

const ISSUER = "https://concierge.example";

export interface PublicServerOptions {
  /** Name, contract and implementations of each service; they get no variables, no database and no peers. */
  services: Pick<ServiceDefinition, "name" | "services">[];
  implement(name: string): ServiceParts["implementations"];
  /** Variables of the platform, such as CONCIERGE_RPC_FAST_PATH, instead of production's defaults. */
  variables?: Record<string, string>;
  log: Logger;
  /** The keys of access tokens; new ones unless told otherwise. */
  keys?: KeySet;
  /** How tokens and sessions are checked, instead of by those keys, with every session alive. */
  users?: ServiceParts["users"];
  /** Which sessions live; all of them unless told otherwise. */
  checkSession?: SessionCheck;
}

export interface PublicServer extends AsyncDisposable {
  readonly server: RunningServer;
  readonly publicUrl: string;
  /** An access token of somebody new. */
  accessToken(lifeSeconds: number): string;
}

/** Everybody may do everything, in every organization. */
async function loadRights(): Promise<Rights> {
  const permissions = setOf(Object.keys(OWN_PERMISSIONS));
  return { standing: "active", roles: [], permissions, branches: new Map(), revisions: NO_REVISIONS };
}

/** Starts it on free ports of 127.0.0.1, unless the variables say otherwise, and waits until it answers. */
export async function startPublicServer(options: PublicServerOptions): Promise<PublicServer> {
  const keys = options.keys ?? (await createSigningKeys("ES256"));
  const checkSession = options.checkSession ?? (() => Promise.resolve(true));
  const users = { keyRing: fixedKeyRing(keys), checkSession };
  const definitions = options.services.map(({ name, services }): ServiceDefinition => {
    const start = () => ({ implementations: options.implement(name), users, loadRights });
    return {
      name,
      services,
      start,
      ports: { public: 0, internal: 0 },
      config: {},
      peers: {},
      hasDatabase: false,
      hasTenants: false,
    };
  });
  const env = {
    CONCIERGE_ISSUER: ISSUER,
    CONCIERGE_PUBLIC_PORT: "0",
    CONCIERGE_INTERNAL_PORT: "0",
    CONCIERGE_DRAIN_SECONDS: "1",
    ...options.variables,
  };
  const { platform } = loadConfig({
    env,
    readFile: () => "",
    stat: () => ({ mode: 0o600 }),
    services: {},
    start: [],
  });
  const server = await startServer({
    definitions,
    platform,
    services: {},
    migrationsFolder: MIGRATIONS_FOLDER,
    clock: systemClock,
    log: options.log,
  });
  await server.ready;
  return {
    server,
    publicUrl: server.publicUrl,
    accessToken(lifeSeconds) {
      const nowSeconds = Math.floor(systemClock.now() / 1000);
      const who = { userId: uuidv7(), sessionId: uuidv7(), organizationId: uuidv7() };
      const claims = { ...who, generation: 0, authenticatedAt: nowSeconds };
      const signer = createSigner(keys);
      return signAccessToken(
        signer,
        { issuer: ISSUER, clock: systemClock },
        { ...claims, expiresAt: nowSeconds + lifeSeconds },
      );
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
