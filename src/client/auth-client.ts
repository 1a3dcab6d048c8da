/**
 * What other teams import: who sent this token, and what may that person do? Both are decided in this process, from what the feeds of auth,
 * access and organization tell; a service is asked only for what is not known, or not known to be fresh. What nobody can tell is UNAVAILABLE
 * / AUTH_STALE: never a grant, and never a refusal.
 */
import type { DescService } from "@bufbuild/protobuf";
import type { Client, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import type { RequiredPermission } from "../rights/require-permission.ts";
import type { Subject } from "../rights/rights.ts";
import type { SimpleLog } from "../simple-log.ts";
import type { ServiceKey } from "../token/service-token.ts";
import type { WhenStale } from "../token/session-check.ts";
import type { ServiceUrls } from "./connections.ts";
import { FollowingClient } from "./following-client.ts";
import type { DecisionOptions, PermissionQuestion } from "./permissions.ts";
import type { RedisAddress } from "./redis-rights.ts";
import type { BreakerState, PresetName, ResilienceOptions } from "./resilience.ts";
import type { Organization, Principal, UserPermissions, VerifiedToken } from "./results.ts";

export interface AuthClientOptions {
  /** Internal listeners: one for all services (as `make start` has it), or one for each. */
  url: ServiceUrls;
  /** What `concierge keys add-caller` wrote: the text of the file, or what is in it. Keys for calls of auth, access and organization. */
  keys: string | { keys: readonly ServiceKey[] };
  /** CONCIERGE_ISSUER of the installation. */
  issuer: string;
  /** Whose tokens are accepted; ["concierge"] unless told. */
  audiences?: readonly string[];
  /** The authorities (PEM) that certify the services; the well-known ones unless told. */
  ca?: string;
  /** How calls are guarded (resilience.ts): "default" unless told; "seed0" and "seed1" are the timings of the clients of before. */
  preset?: PresetName;
  /** What differs from the preset. */
  resilience?: Partial<ResilienceOptions>;
  /** Where auth serves REST, to be asked when RPCs do not get through; no such fallback unless told. Two seconds unless told. */
  rest?: { url: string; timeoutMs?: number };
  /** By which processes with the same keys share what access has answered; needs the package ioredis. Each asks for itself unless told. */
  redis?: RedisAddress;
  /** Whether questions that say `whenStale: "until_expiry"` are answered by what was known last while nobody can be asked; default false. */
  allowStale?: boolean;
  /** How old knowledge may be, in milliseconds: at most and by default 4,500. A quiet feed is up to 2,500 old; with less, services are asked. */
  freshMs?: number;
  /** Silent unless told. */
  log?: SimpleLog;
  /** Told of each fault that did not become an error of its own. */
  onFault?(fault: Fault): void;
  clock?: Clock;
}

/** Something that was answered without what should have decided it. */
export interface Fault {
  operation: "decidePermission" | "checkPermission" | "verifyToken";
  error: ConnectError;
}

/** Where no permission is named, whoever is logged in may. One that is undefined or empty, or a branch without one, is a TypeError. */
export type AuthorizeOptions = Partial<RequiredPermission> & DecisionOptions;

export interface AuthClient extends AsyncDisposable {
  /** Resolves when the keys are there and the feeds are followed; rejects if it is closed before. Nothing needs to wait for it. */
  readonly ready: Promise<void>;
  /** Who sends this access token: without a call as long as what is known is fresh. UNAUTHENTICATED, UNAVAILABLE / AUTH_STALE. */
  authenticate(token: string, options?: { whenStale?: WhenStale }): Promise<Principal>;
  /**
   * authenticate(), and the permission in the token's organization if one is named, in one of its branches if one is: PERMISSION_DENIED /
   * NO_ORGANIZATION or PERMISSION_MISSING, INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN.
   */
  authorize(token: string, options?: AuthorizeOptions): Promise<Principal>;
  /** Who sent a token, and what that person may do in the organization that it names. UNAUTHENTICATED, UNAVAILABLE / AUTH_STALE. */
  verifyToken(token: string): Promise<VerifiedToken>;
  /** Whoever is unknown is denied. INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN, no other error. */
  decidePermission(question: PermissionQuestion): Promise<"allowed" | "denied" | "unavailable">;
  /** False on any fault, of which onFault is told. Never rejects. */
  checkPermission(question: PermissionQuestion): Promise<boolean>;
  /** NOT_FOUND / USER_NOT_FOUND (no member) or ORGANIZATION_NOT_FOUND, UNAVAILABLE / AUTH_STALE. */
  getUserPermissions(subject: Subject): Promise<UserPermissions>;
  /** UUIDs of the open branches in which a member may act. Errors as of getUserPermissions(). */
  getUserLocals(subject: Subject): Promise<string[]>;
  /** NOT_FOUND / ORGANIZATION_NOT_FOUND, UNAVAILABLE / AUTH_STALE. */
  getOrganization(organizationId: string): Promise<Organization>;
  /** A client of any internal service whose calls are signed. Throws a TypeError without a key or an address for it. */
  service<Desc extends DescService>(desc: Desc): Client<Desc>;
  /** Milliseconds since all was known that each service tells; undefined before. */
  staleness(): { auth?: number; access?: number; organization?: number };
  /** How the breaker of each service is that was called. */
  breakers(): Record<string, BreakerState>;
  /** Stops following, and ends all calls. */
  close(): Promise<void>;
}

/**
 * Begins to follow the services, and waits for none of them. Throws a TypeError or RangeError if the options cannot be right, or
 * the package ioredis is missing that they need.
 */
export function createAuthClient(options: AuthClientOptions): AuthClient {
  return new FollowingClient(options);
}
