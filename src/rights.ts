/** How a service knows what people may do: by the word of access, and by the feeds of access and organization. */
import { AccessInternalService } from "../gen/concierge/access/v1/access_service_pb.ts";
import { FeedInternalService } from "../gen/concierge/feed/v1/feed_service_pb.ts";
import type { Consumer } from "./feed/consumers.ts";
import { ownFeed } from "./feed/handlers.ts";
import type { FeedLog } from "./feed/log.ts";
import type { Logger } from "./log.ts";
import type { PeerConnections } from "./peers.ts";
import type { Redis } from "./redis.ts";
import { askAccess } from "./rights/ask-access.ts";
import type { LoadRights } from "./rights/rights-cache.ts";
import { type RightsOptions, type RightsWatch, watchRights } from "./rights/rights-watch.ts";
import { openSharedRights, type SharedOutcome, type SharedRights } from "./rights/shared-rights.ts";
import type { ServiceDefinition } from "./service.ts";
import type { Gauge } from "./telemetry/metrics.ts";
import type { ServiceKey } from "./token/service-token.ts";

export interface RightsOfOptions extends Pick<RightsOptions, "clock" | "onStale"> {
  platform: { allowStale: boolean };
  /** The service's own feed. */
  feed: FeedLog | undefined;
  /** By which the processes of the service share what access has answered. */
  redis?: Redis;
  /** The service's keys of all pairs. */
  keys: readonly ServiceKey[];
  log: Logger;
}

export interface ServiceRights {
  watch: RightsWatch;
  /** Whether somebody decides. */
  isDecided: boolean;
  /** Decides by `load` from now on, instead of asking access. */
  decideBy(load: LoadRights): void;
  /** Follows access and organization; not there for a service that does not name both as its peers, unless it is one of them. */
  follow?(): Consumer[];
  gauges(): Gauge[];
}

/** Rights are asked of access, if it is a peer, until it is said how else they are decided. */
export function rightsOf(
  { name }: ServiceDefinition,
  connections: PeerConnections,
  { feed, platform, redis, keys, ...options }: RightsOfOptions,
): ServiceRights {
  const canFollow = (source: string) => (source === name ? feed !== undefined : connections.has(source));
  let load = connections.has("access")
    ? askAccess(connections.get("access")!.client(AccessInternalService))
    : undefined;
  // Not by access, which has nobody to ask: those who ask it share its answers.
  const pair = keys.filter(({ caller, callee }) => caller === name && callee === "access");
  const shared = redis && connections.has("access") ? openSharedRights({ redis, keys: pair, ...options }) : undefined;
  const watch = watchRights({
    ...options,
    shared,
    allowStale: platform.allowStale,
    load: (...question) => load!(...question),
    feedOf: (source) => (source === name ? ownFeed(feed!) : connections.get(source)!.client(FeedInternalService)),
  });
  return {
    watch,
    get isDecided() {
      return load !== undefined;
    },
    decideBy(own) {
      load = own;
    },
    follow: canFollow("access") && canFollow("organization") ? () => watch.follow() : undefined,
    gauges: () => (shared ? gaugesOf(name, shared) : []),
  };
}

function gaugesOf(service: string, { counts }: SharedRights): Gauge[] {
  return (Object.keys(counts) as SharedOutcome[]).map((outcome) => ({
    kind: "counter",
    name: "shared_rights_total",
    help: "Questions to Redis about what people may do; refused: there was something that could not be believed",
    labels: { service, outcome },
    read: () => counts[outcome],
  }));
}
