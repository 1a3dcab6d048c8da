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
import { type FeedReader, type LiveFollower, startLiveFollower } from "../feed/live-follower.ts";
import type { SimpleLog } from "../simple-log.ts";
import { FRESH_MS } from "../token/freshness.ts";
import { authStale, type WhenStale } from "../token/session-check.ts";
import { NO_REVISIONS, type Revisions } from "./revisions.ts";
import type { Rights, Subject } from "./rights.ts";
import {
  type KnownRights,
  type LoadRights,
  RightsCache,
  type RightsChange,
  type SharedAnswers,
  unknownRevision,
} from "./rights-cache.ts";
import type { SharedRights } from "./shared-rights.ts";

/** Whose changes make rights wrong. */
export type Source = "access" | "organization";

type AnswersOfOthers = Pick<SharedRights, "find" | "store">;

export interface RightsOptions {
  load: LoadRights;
  /** Answers that other processes share. */
  shared?: AnswersOfOthers;
  feedOf(source: Source): FeedReader;
  clock: Clock;
  log: SimpleLog;
  /** Whether methods that say so decide on what they knew last while nobody can be asked. */
  allowStale: boolean;
  /** How old knowledge may be, at most FRESH_MS, which it is unless told. */
  freshMs?: number;
  /** How long somebody's rights are kept, in milliseconds, however fresh they are; as long as there is room unless told. */
  maxAgeMs?: number;
  /** Called for each decision that was made so. */
  onStale?(): void;
  /** Called with the events that were followed; without any once reading has begun, or begun anew. */
  onEvents?(source: Source, events: Event[]): void;
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
  follow(): LiveFollower[];
}

/** What was committed so shortly before a feed was complete may not have come yet (live-follower.ts). */
const SETTLED_MS = 250;

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
    const { load, maxAgeMs, clock } = options;
    const shared = options.shared && this.#sharing(options.shared);
    this.#cache = new RightsCache({ load, shared, maxAgeMs, now: () => clock.monotonic() });
  }

  follow(): LiveFollower[] {
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

  /** What is known, if it is known to be fresh: by the feeds, or because it was asked for lately. */
  #fresh(known: KnownRights, freshMs = this.#options.freshMs ?? FRESH_MS): FreshRights | undefined {
    const followedAt = known.isFollowed ? this.#followedAt() : Number.NEGATIVE_INFINITY;
    const isFresh = this.#options.clock.monotonic() - Math.max(known.askedAt, followedAt) <= freshMs;
    return isFresh ? { rights: known.rights, freshAt: this.#freshAt(known) } : undefined;
  }

  /** Since when nothing newer is known: a feed that is complete lacks what was committed a moment ago. */
  #freshAt({ askedAt, isFollowed }: KnownRights): number {
    return isFollowed ? Math.max(askedAt, this.#followedAt() - SETTLED_MS) : askedAt;
  }

  /** Only while both feeds are followed, and among those who follow the same lives of them: restored services count anew. */
  #sharing(shared: AnswersOfOthers): SharedAnswers {
    const epochs = () => {
      const known = this.#followers.flatMap(({ epoch }) => epoch ?? []);
      return known.length === SOURCES.length ? known : undefined;
    };
    return {
      find(subject) {
        const followed = epochs();
        return followed && shared.find(subject, followed);
      },
      store(subject, rights) {
        const followed = epochs();
        if (followed) shared.store(subject, followed, rights);
      },
      isFresh: (known) => this.#fresh(known) !== undefined,
    };
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
      // This process may have stood still since; and the owner goes by its own idea of what is fresh.
      const fresh = this.#fresh(await this.#cache.ask(subject, wanted), FRESH_MS);
      if (!fresh) throw new Error("the answer came too late");
      return fresh;
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) throw notFound(error);
      if (wanted.size > 0 && reasonOf(error) === "INVALID_CONSISTENCY_TOKEN") throw unknownRevision(error);
      // A change that came meanwhile has made what was known wrong.
      const isKnown = known !== undefined && this.#cache.get(subject, wanted) === known;
      if (!isKnown || whenStale === "closed" || !this.#options.allowStale) throw authStale(error);
      this.#options.onStale?.();
      return { rights: known.rights, freshAt: this.#freshAt(known) };
    }
  }

  /** Without events reading has begun anew: what changed in between is not known. */
  #heed(service: Source, events: Event[]): void {
    if (events.length === 0) this.#cache.clear(service);
    for (const { type, payload, version } of events) {
      const { read } = READINGS[service].find(({ desc }) => desc.typeName === type)!;
      const concern = read(payload);
      if (concern) this.#cache.change({ ...concern, service, version });
    }
    this.#options.onEvents?.(service, events);
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
