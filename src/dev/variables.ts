/**
 * The environment of a whole system, made from its parts: what development, the demo and the test kit give to the same
 * loadConfig() that production uses.
 */
import { type KeyRing, type ServiceKey, snakeCase } from "../config.ts";
import type { DatabaseUrls } from "../db/provision.ts";
import type { ServiceDefinition } from "../service.ts";
import type { KeySet } from "../token/signing-keys.ts";

export interface SystemParts {
  definitions: ServiceDefinition[];
  /** By service, for those that have a database. */
  databases: Record<string, DatabaseUrls>;
  /** Every service key there is; each service gets those of its own pairs. */
  serviceKeys: ServiceKey[];
  signingKeys: KeySet;
  tokenKeys: KeyRing;
  push: { credentials: string; endpoint: string };
}

/** Variables by name. Several of them are secrets. */
export function systemVariables(parts: SystemParts): Record<string, string> {
  const variables: Record<string, string> = {
    CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(parts.signingKeys),
    CONCIERGE_AUTH_TOKEN_KEYS: JSON.stringify(parts.tokenKeys),
    CONCIERGE_NOTIFICATION_SENDER_FIREBASE_CREDENTIALS: parts.push.credentials,
    CONCIERGE_NOTIFICATION_SENDER_PUSH_ENDPOINT: parts.push.endpoint,
  };
  for (const { name, hasTenants } of parts.definitions) {
    const prefix = `CONCIERGE_${snakeCase(name)}`;
    const keys = parts.serviceKeys.filter(({ caller, callee }) => caller === name || callee === name);
    if (keys.length > 0) variables[`${prefix}_SERVICE_KEYS`] = JSON.stringify({ keys });
    const database = parts.databases[name];
    if (database) {
      variables[`${prefix}_DATABASE_URL`] = database.runtimeUrl;
      variables[`${prefix}_DATABASE_OWNER_URL`] = database.ownerUrl;
      if (hasTenants) variables[`${prefix}_DATABASE_JOB_URL`] = database.jobUrl!;
    }
  }
  return variables;
}

/** The variables that tell a service where its peers are. `urlOf` gives a peer's internal listener. */
export function peerVariables(definition: ServiceDefinition, urlOf: (peer: string) => string): Record<string, string> {
  const prefix = `CONCIERGE_${snakeCase(definition.name)}`;
  return Object.fromEntries(
    Object.keys(definition.peers).map((peer) => [`${prefix}_${snakeCase(peer)}_URL`, urlOf(peer)]),
  );
}
