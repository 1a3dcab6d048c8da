/** Whom a service calls, and with which keys: connections to its peers, wherever they are. */
import { connectService, type ServiceConnection } from "./client/service-client.ts";
import type { Clock } from "./clock.ts";
import type { ServiceKey } from "./config.ts";
import { sideOf } from "./rpc/access.ts";
import type { ServiceDefinition, ServiceValues } from "./service.ts";

export interface PeerOptions {
  /** The values of the service's own variables. */
  config: ServiceValues;
  /** Where a peer's internal listener is, when it is in this very process. */
  localUrl(peer: string): string | undefined;
  /** The authorities (PEM) that certify peers; the well-known ones when not set. */
  peerCa?: string;
  clock: Clock;
}

/** Connections by the names of peers; nothing is reached yet. */
export type PeerConnections = ReadonlyMap<string, ServiceConnection>;

export function connectPeers(
  definition: ServiceDefinition,
  options: PeerOptions,
  opened: AsyncDisposableStack,
): PeerConnections {
  const connections = new Map<string, ServiceConnection>();
  for (const peer of Object.keys(definition.peers)) {
    const { config, peerCa: ca, clock } = options;
    const key = keyOfPair(keysOf(config), definition.name, peer)!;
    connections.set(peer, opened.use(connectService({ baseUrl: peerUrlOf(peer, options), ca, key, clock })));
  }
  return connections;
}

/** Which keys a service lacks to call its peers, or to be called at all: one line each. Asked before a port is opened. */
export function missingKeys({ name, peers, services }: ServiceDefinition, config: ServiceValues): string[] {
  const keys = keysOf(config);
  const missing = Object.keys(peers)
    .filter((peer) => !keyOfPair(keys, name, peer))
    .map((peer) => `${name} calls ${peer} but has no service key for it: run \`concierge keys init\``);
  const takesCalls = services.some((desc) => sideOf(desc) === "internal");
  if (takesCalls && !keys.some(({ callee }) => callee === name)) {
    missing.push(`${name} takes internal calls but has no service key of any caller: run \`concierge keys init\``);
  }
  return missing;
}

/** A client for each peer, of the API that the definition names. */
export function clientsOf({ peers }: ServiceDefinition, connections: PeerConnections) {
  return Object.fromEntries(Object.entries(peers).map(([peer, desc]) => [peer, connections.get(peer)!.client(desc)]));
}

export function peerUrlOf(peer: string, { config, localUrl }: PeerOptions): string {
  return localUrl(peer) ?? (config[`${peer}Url`] as string);
}

export function keysOf(config: ServiceValues): ServiceKey[] {
  return config.serviceKeys?.keys ?? [];
}

function keyOfPair(keys: ServiceKey[], caller: string, callee: string): ServiceKey | undefined {
  return keys.find((key) => key.caller === caller && key.callee === callee);
}
