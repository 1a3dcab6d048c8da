/** How a service knows what people may do: by the word of access, and by the feeds of access and organization. */
import { AccessInternalService } from "../gen/concierge/access/v1/access_service_pb.ts";
import { FeedInternalService } from "../gen/concierge/feed/v1/feed_service_pb.ts";
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
  /** Decides by `load` from now on, instead of asking access. */
  decideBy(load: LoadRights): void;
}

/** Of a service that names access and organization as its peers, or is one of them and names the other one. */
export function rightsOf(
  { name }: ServiceDefinition,
  connections: PeerConnections,
  { feed, platform, ...options }: RightsOfOptions,
): ServiceRights | undefined {
  const canFollow = (source: string) => (source === name ? feed !== undefined : connections.has(source));
  if (!canFollow("access") || !canFollow("organization")) return undefined;
  let load: LoadRights =
    name === "access" ? () => Promise.reject(new Error("access decides itself")) : askAccess(connections);
  const watch = watchRights({
    ...options,
    allowStale: platform.allowStale,
    load: (...question) => load(...question),
    feedOf: (source) => (source === name ? ownFeed(feed!) : connections.get(source)!.client(FeedInternalService)),
  });
  return {
    watch,
    decideBy(own) {
      load = own;
    },
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
