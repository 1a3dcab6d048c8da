/** What proofs about auth run on: a PostgreSQL of their own, and two replicas of auth in production mode over one database. */
import type { Sql } from "postgres";
import type { ServiceKey } from "../config.ts";
import { connect, databaseOf, withDatabase } from "../db/connection.ts";
import { auth } from "../services/auth/service.ts";
import { CLUSTER_VARIABLE, startTestCluster, testDatabase } from "../testing/cluster.ts";
import { createServiceKey, createSigningKeys, createTokenKeys } from "../token/key-making.ts";
import type { KeySet } from "../token/signing-keys.ts";
import { ISSUER } from "./auth-sessions.ts";
import type { Replica } from "./replica.ts";
import { startWorker, type Worker } from "./workers.ts";

export interface AuthReplica extends Replica {
  worker: Worker;
}

export interface AuthSetting {
  /** The first one signs. */
  keys: KeySet;
  /** Owner's, and superuser's. */
  databaseUrl: string;
  /** Of the role that auth runs as. */
  runtimeUrl: string;
  /** Of the owner. */
  sql: Sql;
  replicas: [AuthReplica, AuthReplica];
  /** Another process over the same database: at the places of one that has ended if it is told, with other variables if it has them. */
  startReplica(ended?: Replica, changes?: Record<string, string>): Promise<AuthReplica>;
}

/** Opens it; `opened` closes it. */
export async function openAuthSetting(
  serviceKeys: ServiceKey[],
  opened: AsyncDisposableStack,
  { moreKeys = { keys: [] }, variables: changes = {} }: { moreKeys?: KeySet; variables?: Record<string, string> } = {},
): Promise<AuthSetting> {
  // Of our own, whatever else there is: it may be stopped.
  const { adminUrl } = opened.use(await startTestCluster());
  process.env[CLUSTER_VARIABLE] = adminUrl;
  const { ownerUrl, runtimeUrl } = opened.use(await testDatabase(["platform", "auth"]));
  const keys = await createSigningKeys("ES256");
  // They are not there, and auth does not wait for them.
  const peerKeys = Object.keys(auth.peers).map((peer) => createServiceKey("auth", peer, "service"));
  const variables = {
    CONCIERGE_ISSUER: ISSUER,
    CONCIERGE_AUTH_DATABASE_URL: runtimeUrl,
    CONCIERGE_AUTH_DATABASE_OWNER_URL: ownerUrl,
    CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify({ keys: [...keys.keys, ...moreKeys.keys] }),
    CONCIERGE_AUTH_TOKEN_KEYS: JSON.stringify(createTokenKeys()),
    CONCIERGE_AUTH_REQUIRE_EMAIL_VERIFICATION: "false",
    CONCIERGE_AUTH_SERVICE_KEYS: JSON.stringify({ keys: [...serviceKeys, ...peerKeys] }),
    ...changes,
  };
  const sql = connect(ownerUrl, { applicationName: "concierge-prove" });
  opened.defer(() => sql.end({ timeout: 1 }));
  const startReplica = async (ended?: Replica, changes: Record<string, string> = {}) => {
    const worker = opened.use(startWorker("replica"));
    const task = { services: ["auth"], variables: { ...variables, ...portsOf(ended), ...changes } };
    return { worker, ...(await worker.call<Replica>("start", task)) };
  };
  const replicas: [AuthReplica, AuthReplica] = [await startReplica(), await startReplica()];
  return { keys, databaseUrl: withDatabase(adminUrl, databaseOf(ownerUrl)), runtimeUrl, sql, replicas, startReplica };
}

function portsOf(replica: Replica | undefined): Record<string, string> {
  if (!replica) return {};
  const { publicUrl, internalUrl } = replica;
  return {
    CONCIERGE_PUBLIC_PORT: new URL(publicUrl).port,
    CONCIERGE_INTERNAL_PORT: new URL(internalUrl).port,
    CONCIERGE_AUTH_REST_PORT: "0",
  };
}
