/** How a service knows people: the keys that their tokens are signed with, and which of their sessions live. */
import { AuthInternalService } from "../gen/concierge/auth/v1/auth_service_pb.ts";
import { FeedInternalService } from "../gen/concierge/feed/v1/feed_service_pb.ts";
import { StartupError } from "./errors.ts";
import type { Consumer } from "./feed/consumers.ts";
import type { Logger } from "./log.ts";
import { type PeerConnections, type PeerOptions, peerUrlOf } from "./peers.ts";
import { accessRule } from "./rpc/access.ts";
import type { Authentication } from "./rpc/authenticate.ts";
import type { ServiceDefinition } from "./service.ts";
import { followSessions, type SessionWatch } from "./token/freshness.ts";
import { fixedKeyRing, remoteKeyRing } from "./token/key-ring.ts";

export interface Users extends Pick<Authentication, "keyRing" | "checkSession" | "onSessionEnded"> {
  /** Starts to follow the sessions that end: before that, none can be checked. */
  followSessions?(): Consumer;
}

export interface UsersOptions extends PeerOptions {
  allowStale: boolean;
  onStale?(): void;
  log: Logger;
}

/** How every service but auth knows people: by auth's published keys and auth's feed. Throws a StartupError if it must and cannot. */
export function usersOfAuth(definition: ServiceDefinition, connections: PeerConnections, options: UsersOptions): Users {
  const { clock, peerCa, allowStale, onStale, log } = options;
  const servesPeople = definition.services.some((desc) =>
    desc.methods.some((method) => ["user", "permission"].includes(accessRule(method).who)),
  );
  if (!servesPeople) return { keyRing: fixedKeyRing({ keys: [] }), checkSession: () => false };
  const auth = connections.get("auth");
  if (!auth) throw new StartupError(`${definition.name} has methods for users but does not name auth as a peer`);
  const clients = { auth: auth.client(AuthInternalService), feed: auth.client(FeedInternalService) };
  const keyRing = remoteKeyRing(new URL("/.well-known/jwks.json", peerUrlOf("auth", options)).href, clock, peerCa);
  let watch: SessionWatch | undefined;
  return {
    keyRing,
    checkSession: (claims, whenStale, leadMs) => watch!.check(claims, whenStale, leadMs),
    onSessionEnded: (sessionId, listener) => watch!.onEnded(sessionId, listener),
    followSessions() {
      const onKeyRemoved = (kid: string) => keyRing.remove(kid);
      watch = followSessions({ ...clients, clock, log, allowStale, onStale, onKeyRemoved });
      return watch;
    },
  };
}
