/** How a service knows what people may do: by the word of access, and by the feeds of access and organization. */
import { AccessInternalService } from "../gen/concierge/access/v1/access_service_pb.ts";
import { FeedInternalService } from "../gen/concierge/feed/v1/feed_service_pb.ts";
import type { Consumer } from "./feed/consumers.ts";
import { ownFeed } from "./feed/handlers.ts";
import type { FeedLog } from "./feed/log.ts";
import type { Logger } from "./log.ts";
import type { PeerConnections } from "./peers.ts";
import { CONSISTENCY_HEADER, fromConsistencyToken, toConsistencyToken } from "./rights/revisions.ts";
import { unpackRights } from "./rights/rights.ts";
import type { LoadRights } from "./rights/rights-cache.ts";
import { type RightsOptions, type RightsWatch, watchRights } from "./rights/rights-watch.ts";
import type { ServiceDefinition } from "./service.ts";

export interface RightsOfOptions extends Pick<RightsOptions, "clock" | "onStale"> {
  platform: { allowStale: boolean };
  /** The service's own feed. */
  feed: FeedLog | undefined;
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
}

/** Rights are asked of access, if it is a peer, until it is said how else they are decided. */
export function rightsOf(
  { name }: ServiceDefinition,
  connections: PeerConnections,
  { feed, platform, ...options }: RightsOfOptions,
): ServiceRights {
  const canFollow = (source: string) => (source === name ? feed !== undefined : connections.has(source));
  let load = connections.has("access") ? askAccess(connections) : undefined;
  const watch = watchRights({
    ...options,
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
  };
}

function askAccess(connections: PeerConnections): LoadRights {
  const access = connections.get("access")!.client(AccessInternalService);
  return async (subject, wanted, signal) => {
    const headers = { [CONSISTENCY_HEADER]: toConsistencyToken(wanted) };
    const { rights, consistencyToken } = await access.getUserPermissions(subject, { signal, headers });
    return unpackRights(rights, fromConsistencyToken(consistencyToken));
  };
}
