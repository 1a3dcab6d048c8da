/**
 * What may somebody do? Decided in this process by rights that were asked for once and that the feeds of access and organization keep
 * right. Nothing older decides than what this process has seen of an organization (consistency.ts).
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { validate as isUuid } from "uuid";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { FeedInternalService } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import { reasonOf } from "../errors.ts";
import type { LiveFollower } from "../feed/live-follower.ts";
import { askAccess } from "../rights/ask-access.ts";
import { type RequiredPermission, requirePermission } from "../rights/require-permission.ts";
import { fromConsistencyToken, mergeRevisions, type Revisions } from "../rights/revisions.ts";
import { holds, type Rights, type Subject } from "../rights/rights.ts";
import { type RightsOptions, type RightsWatch, type Source, watchRights } from "../rights/rights-watch.ts";
import type { AccessClaims } from "../token/access-token.ts";
import type { WhenStale } from "../token/session-check.ts";
import type { Connections } from "./connections.ts";
import type { SeenRevisions } from "./consistency.ts";
import { organizationNotFound, userNotFound } from "./results.ts";

export interface PermissionsOptions
  extends Pick<RightsOptions, "clock" | "log" | "allowStale" | "freshMs" | "shared" | "onEvents"> {
  connections: Connections;
  seen: SeenRevisions;
}

/** How a decision is to be made. */
export interface DecisionOptions {
  /** "closed" unless told: what is not known to be fresh does not decide. */
  whenStale?: WhenStale;
  /** What the decision must know, beside what this client has seen itself. */
  consistencyToken?: string;
}

export interface PermissionQuestion extends RequiredPermission, DecisionOptions {
  /** UUID. */
  userId: string;
  /** UUID. */
  organizationId: string;
}

/** Rights are asked for anew after an hour, whatever the feeds say. */
const KEPT_MS = 3_600_000;
/** A little less than those wait who ask (rights-cache.ts), so that a silent service is told from a caller who left. */
const QUESTION_TIMEOUT_MS = 900;

export class Permissions implements AsyncDisposable {
  readonly #seen: SeenRevisions;
  readonly #watch: RightsWatch;
  readonly #followers: LiveFollower[];

  constructor({ connections, seen, ...options }: PermissionsOptions) {
    this.#seen = seen;
    this.#watch = watchRights({
      ...options,
      load: askAccess(connections.client(AccessInternalService), { timeoutMs: QUESTION_TIMEOUT_MS }),
      feedOf: (source) => connections.follower(FeedInternalService, source),
      maxAgeMs: KEPT_MS,
    });
    this.#followers = this.#watch.follow();
  }

  /** Resolves when the feeds have told everything for the first time. */
  async ready(): Promise<void> {
    await Promise.all(this.#followers.map(({ caughtUp }) => caughtUp));
  }

  /** Monotonic time at which a feed was complete. */
  freshAt(source: Source): number | undefined {
    return this.#followers.find((follower) => follower.source === source)?.freshAt;
  }

  /** Errors as of requirePermission() (require-permission.ts). */
  async require(claims: AccessClaims, required: RequiredPermission, options: DecisionOptions): Promise<void> {
    const branchId = required.branchId?.toLowerCase();
    await this.#knowing(claims.organizationId, options, (wanted) => {
      const question = { wanted, whenStale: options.whenStale };
      return requirePermission(this.#watch, claims, { ...required, branchId }, question);
    });
  }

  /** Whoever is unknown may do nothing. UNAVAILABLE / AUTH_STALE, INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN. */
  async decide({ permission, branchId, ...question }: PermissionQuestion): Promise<boolean> {
    try {
      return holds(await this.rightsOf(question, question), permission, branchId?.toLowerCase());
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) return false;
      throw error;
    }
  }

  /**
   * NOT_FOUND / ORGANIZATION_NOT_FOUND or USER_NOT_FOUND (no id of a user), UNAVAILABLE / AUTH_STALE, INVALID_ARGUMENT /
   * INVALID_CONSISTENCY_TOKEN.
   */
  async rightsOf({ userId, organizationId }: Subject, options: DecisionOptions = {}): Promise<Rights> {
    if (!isUuid(organizationId)) throw organizationNotFound();
    if (!isUuid(userId)) throw userNotFound();
    const subject = { userId: userId.toLowerCase(), organizationId: organizationId.toLowerCase() };
    return this.#knowing(subject.organizationId, options, async (wanted) => {
      return (await this.#watch.rightsOf(subject, { wanted, whenStale: options.whenStale })).rights;
    });
  }

  /** What a decision in this organization has to know. INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN. */
  wantedBy(organizationId: string | undefined, { consistencyToken = "" }: DecisionOptions): Revisions {
    return mergeRevisions(this.#seen.wanted(organizationId ?? ""), fromConsistencyToken(consistencyToken));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#followers.map((follower) => follower[Symbol.asyncDispose]()));
  }

  /** Decides by what is known of the organization at least. */
  async #knowing<Decision>(
    organizationId: string | undefined,
    options: DecisionOptions,
    decide: (wanted: Revisions) => Promise<Decision>,
  ): Promise<Decision> {
    try {
      return await decide(this.wantedBy(organizationId, options));
    } catch (error) {
      if (reasonOf(error) !== "INVALID_CONSISTENCY_TOKEN") throw error;
      const decision = await decide(fromConsistencyToken(options.consistencyToken ?? ""));
      // So it is not the caller's: what this process saw is gone, as after a restore of the services' databases.
      this.#seen.clear();
      return decision;
    }
  }
}
