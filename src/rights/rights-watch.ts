/**
 * What may somebody do, decided from memory: the rights of those who were asked about, kept right by following the feeds of access and
 * organization. A removed member loses everything by organization's own word, whatever access knows. Past FRESH_MS the owner is asked
 * for the one person; when that fails too, the method's rule decides. No answer is never "no": it is UNAVAILABLE / AUTH_STALE.
 */
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import {
  PermissionCreatedSchema,
  PermissionGrantedSchema,
  PermissionRevokedSchema,
  RoleAssignedSchema,
  RoleChangedSchema,
  RoleUnassignedSchema,
} from "../../gen/concierge/access/v1/access_events_pb.ts";
import type { Event } from "../../gen/concierge/feed/v1/feed_service_pb.ts";
import {
  BranchChangedSchema,
  MemberChangedSchema,
  MemberRemovedSchema,
  OrganizationChangedSchema,
} from "../../gen/concierge/organization/v1/organization_events_pb.ts";
import type { Clock } from "../clock.ts";
import { Code, fail, reasonOf } from "../errors.ts";
import type { Consumer } from "../feed/consumers.ts";
import { type FeedReader, type LiveFollower, startLiveFollower } from "../feed/live-follower.ts";
import type { Logger } from "../log.ts";
import { FRESH_MS } from "../token/freshness.ts";
import { authStale, type WhenStale } from "../token/session-check.ts";
import { NO_REVISIONS, type Revisions } from "./revisions.ts";
import type { Rights, Subject } from "./rights.ts";
import { type KnownRights, type LoadRights, RightsCache, type RightsChange, unknownRevision } from "./rights-cache.ts";

/** Whose changes make rights wrong. */
type Source = "access" | "organization";

export interface RightsOptions {
  load: LoadRights;
  feedOf(source: Source): FeedReader;
  clock: Clock;
  log: Logger;
  /** Whether methods that say so decide on what they knew last while nobody can be asked. */
  allowStale: boolean;
  /** Called for each decision that was made so. */
  onStale?(): void;
}

export interface RightsQuestion {
  /** What the answer must know. */
  wanted?: Revisions;
  /** Closed unless told otherwise. */
  whenStale?: WhenStale;
}

/** Somebody's rights, and since when nothing newer is known: monotonic milliseconds. */
export interface FreshRights {
  rights: Rights;
  freshAt: number;
}

export interface RightsWatch {
  /**
   * The rights of somebody: at once from memory, or from their owner. Rejects with UNAVAILABLE / AUTH_STALE when nobody can tell,
   * with NOT_FOUND / ORGANIZATION_NOT_FOUND or USER_NOT_FOUND, and with INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN when what is
   * wanted is more than the owner knows.
   */
  rightsOf(subject: Subject, question?: RightsQuestion): FreshRights | Promise<FreshRights>;
  /** Follows the feeds. Before that, and without it, every question goes to the owner. */
  follow(): Consumer[];
}

/** Whose rights, and where, an event makes wrong. */
type Concern = Pick<RightsChange, "organizationId" | "userId">;

interface Reading {
  desc: DescMessage;
  /** Undefined for what makes no rights wrong. */
  read(payload: Uint8Array): Concern | undefined;
}

const READINGS: Record<Source, Reading[]> = {
  access: [
    reading(PermissionCreatedSchema, () => ({ organizationId: "" })),
    reading(RoleChangedSchema, ({ organizationId, created }) => (created ? undefined : { organizationId })),
    reading(RoleAssignedSchema, onePerson),
    reading(RoleUnassignedSchema, onePerson),
    reading(PermissionGrantedSchema, onePerson),
    reading(PermissionRevokedSchema, onePerson),
  ],
  organization: [
    reading(OrganizationChangedSchema, ({ organization }) => ({ organizationId: organization!.organizationId })),
    reading(MemberChangedSchema, onePerson),
    reading(MemberRemovedSchema, onePerson),
    reading(BranchChangedSchema, ({ branch }) => ({ organizationId: branch!.organizationId })),
  ],
};
const SOURCES = Object.keys(READINGS) as Source[];

export function watchRights(options: RightsOptions): RightsWatch {
  return new Watch(options);
}

class Watch implements RightsWatch {
  readonly #options: RightsOptions;
  readonly #cache: RightsCache;
  #followers: LiveFollower[] = [];

  constructor(options: RightsOptions) {
    this.#options = options;
    this.#cache = new RightsCache({ load: options.load, now: () => options.clock.monotonic() });
  }

  follow(): Consumer[] {
    const { feedOf, clock, log } = this.#options;
    this.#followers = SOURCES.map((source) => {
      const types = READINGS[source].map(({ desc }) => desc);
      const onEvents = (events: Event[]) => this.#heed(source, events);
      return startLiveFollower({ source, types, client: feedOf(source), onEvents, clock, log });
    });
    return this.#followers;
  }

  rightsOf(subject: Subject, question: RightsQuestion = {}): FreshRights | Promise<FreshRights> {
    const known = this.#cache.get(subject, question.wanted);
    const fresh = known && this.#fresh(known);
    return fresh ?? this.#ask(subject, question, known);
  }

  /** What is known, if it is known to be no older than FRESH_MS: by the feeds, or because it was asked for lately. */
  #fresh({ rights, askedAt }: KnownRights): FreshRights | undefined {
    const freshAt = Math.max(askedAt, this.#followedAt());
    return this.#options.clock.monotonic() - freshAt <= FRESH_MS ? { rights, freshAt } : undefined;
  }

  /** When the feed that is furthest behind was last known to be complete. */
  #followedAt(): number {
    let oldest = this.#followers.length === 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    for (const { freshAt } of this.#followers) oldest = Math.min(oldest, freshAt ?? Number.NEGATIVE_INFINITY);
    return oldest;
  }

  async #ask(
    subject: Subject,
    { wanted = NO_REVISIONS, whenStale = "closed" }: RightsQuestion,
    known: KnownRights | undefined,
  ): Promise<FreshRights> {
    try {
      const { rights, askedAt } = await this.#cache.ask(subject, wanted);
      // This process may have stood still since.
      const fresh = this.#fresh({ rights, askedAt });
      if (!fresh) throw new Error("the answer came too late");
      return fresh;
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) throw notFound(error);
      if (wanted.size > 0 && reasonOf(error) === "INVALID_CONSISTENCY_TOKEN") throw unknownRevision(error);
      // A change that came meanwhile has made what was known wrong.
      const isKnown = known !== undefined && this.#cache.get(subject, wanted) === known;
      if (!isKnown || whenStale === "closed" || !this.#options.allowStale) throw authStale(error);
      this.#options.onStale?.();
      return { rights: known.rights, freshAt: Math.max(known.askedAt, this.#followedAt()) };
    }
  }

  /** Without events reading has begun anew: what changed in between is not known. */
  #heed(service: Source, events: Event[]): void {
    if (events.length === 0) this.#cache.clear();
    for (const { type, payload, version } of events) {
      const { read } = READINGS[service].find(({ desc }) => desc.typeName === type)!;
      const concern = read(payload);
      if (concern) this.#cache.change({ ...concern, service, version });
    }
  }
}

/** What another service has answered may not leave as it is: it would count as a fault of ours. */
function notFound(cause: unknown): ConnectError {
  const reason = reasonOf(cause) ?? "NOT_FOUND";
  return fail(Code.NotFound, reason, "there is no such organization or user", { cause });
}

function reading<Desc extends DescMessage>(
  desc: Desc,
  concern: (fact: MessageShape<Desc>) => Concern | undefined,
): Reading {
  return { desc, read: (payload) => concern(fromBinary(desc, payload)) };
}

function onePerson({ organizationId, userId }: { organizationId: string; userId: string }): Concern {
  return { organizationId, userId };
}
