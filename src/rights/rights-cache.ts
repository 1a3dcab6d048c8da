/**
 * Rights in memory. What was asked once is kept until the feeds say that it has changed; an answer that was on its way when its
 * organization changed is not kept, however late it comes, unless it knows of the change (R-CON-06). Whether what is kept may decide is a
 * question of freshness, which belongs to whoever follows the feeds (rights-watch.ts).
 */
import { LRUCache } from "lru-cache";
import { agedBy, jittered } from "../cache-times.ts";
import { Code, fail } from "../errors.ts";
import { ConfirmedRevisions } from "./confirmed-revisions.ts";
import {
  covers,
  isOf,
  mergeRevisions,
  NO_REVISIONS,
  type Revisions,
  revision,
  toConsistencyToken,
} from "./revisions.ts";
import type { Rights, Subject } from "./rights.ts";

/** Asks the owner. The answer must know at least what is wanted. */
export type LoadRights = (subject: Subject, wanted: Revisions, signal: AbortSignal) => Promise<LoadedRights>;

/** As their owner gives them, who may have kept them itself. */
export interface LoadedRights extends Rights {
  /** All that was committed longer than that ago, in milliseconds, is known; all, unless told. */
  readonly ageMs?: number;
}

/** Rights, and the monotonic time as of which they are: at which the owner was asked, less the age of the answer. */
export interface KnownRights {
  rights: Rights;
  askedAt: number;
  /** Whether all later changes come by the feeds, because they were followed by then. Else the rights are as old as that, and age. */
  isFollowed: boolean;
}

/** A change that makes rights wrong. */
export interface RightsChange {
  /** Which service has changed. */
  service: string;
  /** The empty one is the platform, on which the rights in every organization depend. */
  organizationId: string;
  /** Whose rights; everybody's if it is not set. */
  userId?: string;
  /** The revision that the change made. */
  version: bigint;
}

/** What was kept of an organization since it last changed for everybody: all of it ends at once. */
interface Generation {
  hasEnded: boolean;
}

interface KeptRights extends KnownRights {
  generation: Generation;
}

/** Where processes leave the owner's answers for each other. Old ones may be there as well, but none that no owner gave. */
export interface SharedAnswers {
  /** Undefined if nobody can be asked; resolves to undefined if there is none. */
  find(subject: Subject): Promise<Rights | undefined> | undefined;
  store(subject: Subject, rights: Rights): void;
  /** Whether these may decide. */
  isFresh(known: KnownRights): boolean;
}

export interface RightsCacheOptions {
  load: LoadRights;
  shared?: SharedAnswers;
  /** Monotonic milliseconds. */
  now(): number;
  /** Room for the rights of those who have some; default 256 MiB. */
  maxBytes?: number;
  /** How long an answer is kept, in milliseconds, up to a tenth less; as long as there is room unless told. */
  maxAgeMs?: number;
}

const DEFAULT_MAX_BYTES = 256 * 1024 * 1024;
const BYTES_OF_ONE = 500;
const BYTES_OF_BRANCH = 80;
const BYTES_OF_PERMISSION = 50;
/** Their own room, small: whoever asks about people who are nothing to an organization pushes nobody else out. */
const MAX_STRANGERS = 5_000;
const MAX_GENERATIONS = 100_000;
/** Changed organizations whose newest revision is remembered, so that an owner who is behind another one is not believed. */
const REMEMBERED_CHANGES = 100_000;
const QUESTION_TIMEOUT_MS = 1_000;
const MAX_QUESTIONS = 3;

export class RightsCache {
  readonly #options: RightsCacheOptions;
  readonly #known: LRUCache<string, KeptRights>;
  readonly #strangers: LRUCache<string, KeptRights>;
  readonly #generations = new LRUCache<string, Generation>({ max: MAX_GENERATIONS, dispose: end });
  readonly #asking = new Map<string, Promise<KnownRights>>();
  readonly #finding = new Map<string, Promise<Rights | undefined>>();
  readonly #changes = new LRUCache<string, Revisions>({ max: REMEMBERED_CHANGES });
  readonly #confirmed = new ConfirmedRevisions();
  #clearings = 0;
  /** Since when no change is missed. */
  #followedFrom = Number.NEGATIVE_INFINITY;

  constructor(options: RightsCacheOptions) {
    this.#options = options;
    const { now, maxBytes = DEFAULT_MAX_BYTES } = options;
    this.#known = new LRUCache({ maxSize: maxBytes, sizeCalculation: bytesOf, ...agedBy(now) });
    this.#strangers = new LRUCache({ max: MAX_STRANGERS, ...agedBy(now) });
  }

  /** What is kept, if it knows what is wanted. */
  get(subject: Subject, wanted: Revisions = NO_REVISIONS): KnownRights | undefined {
    const name = nameOf(subject);
    const known = this.#known.get(name) ?? this.#strangers.get(name);
    if (!known || known.generation.hasEnded) return undefined;
    return covers(known.rights.revisions, wanted) ? known : undefined;
  }

  /**
   * Takes what is shared, if that is as good as an answer of the owner. Else asks the owner, once for all who want the same at the same
   * time, until the answer knows of every change that is known here.
   */
  async ask(subject: Subject, wanted: Revisions = NO_REVISIONS): Promise<KnownRights> {
    const finding = this.#findOnce(subject);
    const shared = finding && (await this.#judge(subject, wanted, finding));
    if (shared) return shared;
    for (let questions = 1; ; questions++) {
      const known = await this.#askOnce(subject, wanted);
      // The question said what is wanted, and nobody knows more than the owner.
      if (!covers(known.rights.revisions, wanted)) throw unknownRevision();
      if (covers(known.rights.revisions, this.#changesOf(subject.organizationId))) return known;
      if (questions === MAX_QUESTIONS) throw new Error("the owner of rights knows less than what is known here");
    }
  }

  /** Forgets what a change makes wrong, and remembers that whoever answers must know of it. */
  change({ service, organizationId, userId, version }: RightsChange): void {
    const made = revision(service, organizationId, version);
    this.#changes.set(organizationId, mergeRevisions(this.#changes.get(organizationId) ?? NO_REVISIONS, made));
    this.#confirmed.change({ service, organizationId, userId, version });
    if (userId !== undefined) this.#forget(nameOf({ userId, organizationId }));
    else if (organizationId === "") this.#forgetAll();
    else this.#generations.delete(organizationId);
  }

  /** Forgets everything: changes of this service may have been missed up to now, and what it counts may be another life of it. */
  clear(service: string): void {
    this.#followedFrom = this.#options.now();
    this.#forgetAll();
    for (const [organizationId, known] of [...this.#changes.entries()]) {
      this.#changes.set(organizationId, new Map([...known].filter(([subject]) => !isOf(service, subject))));
    }
    // Their answers may know nothing of what was missed.
    this.#asking.clear();
    this.#finding.clear();
    this.#confirmed.clear();
    this.#clearings += 1;
  }

  /** Undefined where nothing that is found could count. */
  #findOnce(subject: Subject): Promise<Rights | undefined> | undefined {
    if (!this.#confirmed.has(subject.organizationId)) return undefined;
    const name = nameOf(subject);
    const running = this.#finding.get(name);
    if (running) return running;
    const finding = this.#options.shared?.find(subject)?.finally(() => {
      if (this.#finding.get(name) === finding) this.#finding.delete(name);
    });
    if (finding) this.#finding.set(name, finding);
    return finding;
  }

  /** What is found counts as the answer to the question that confirmed its revisions. */
  async #judge(
    subject: Subject,
    wanted: Revisions,
    finding: Promise<Rights | undefined>,
  ): Promise<KnownRights | undefined> {
    const clearings = this.#clearings;
    const rights = await finding;
    if (!rights || clearings !== this.#clearings || !covers(rights.revisions, wanted)) return undefined;
    const askedAt = this.#confirmed.askedAt(subject.organizationId, rights.revisions);
    if (askedAt === undefined) return undefined;
    const known = { rights, askedAt, isFollowed: true };
    if (!this.#options.shared!.isFresh(known)) return undefined;
    this.#keep(subject, known);
    return known;
  }

  #askOnce(subject: Subject, wanted: Revisions): Promise<KnownRights> {
    const question = `${nameOf(subject)}/${toConsistencyToken(wanted)}`;
    const running = this.#asking.get(question);
    if (running) return running;
    const answer: Promise<KnownRights> = this.#load(subject, wanted, () => this.#asking.get(question) === answer);
    this.#asking.set(question, answer);
    const forget = () => {
      if (this.#asking.get(question) === answer) this.#asking.delete(question);
    };
    answer.then(forget, forget);
    return answer;
  }

  async #load(subject: Subject, wanted: Revisions, isAsking: () => boolean): Promise<KnownRights> {
    const sentAt = this.#options.now();
    const changes = () => this.#changesOf(subject.organizationId);
    const signal = AbortSignal.timeout(QUESTION_TIMEOUT_MS);
    const { ageMs = 0, ...rights } = await this.#options.load(subject, mergeRevisions(wanted, changes()), signal);
    const askedAt = sentAt - ageMs;
    const known = { rights, askedAt, isFollowed: askedAt >= this.#followedFrom };
    if (isAsking() && covers(rights.revisions, changes())) {
      this.#keep(subject, known);
      if (known.isFollowed) this.#confirmed.confirm(subject.organizationId, known);
      this.#options.shared?.store(subject, rights);
    }
    return known;
  }

  /** Unless something newer is kept, the answer to another question. */
  #keep(subject: Subject, known: KnownRights): void {
    const { rights } = known;
    const name = nameOf(subject);
    const before = this.#known.peek(name) ?? this.#strangers.peek(name);
    if (before && !covers(rights.revisions, before.rights.revisions)) return;
    this.#forget(name);
    const generation = this.#generationOf(subject.organizationId);
    const people = rights.standing === "none" ? this.#strangers : this.#known;
    const { maxAgeMs } = this.#options;
    people.set(name, { ...known, generation }, maxAgeMs === undefined ? {} : { ttl: jittered(maxAgeMs) });
  }

  #generationOf(organizationId: string): Generation {
    const known = this.#generations.get(organizationId);
    if (known) return known;
    const made = { hasEnded: false };
    this.#generations.set(organizationId, made);
    return made;
  }

  #forget(name: string): void {
    this.#known.delete(name);
    this.#strangers.delete(name);
  }

  #forgetAll(): void {
    this.#known.clear();
    this.#strangers.clear();
  }

  /** What is known to have changed: of the organization, and of the platform. */
  #changesOf(organizationId: string): Revisions {
    const platform = this.#changes.get("") ?? NO_REVISIONS;
    if (organizationId === "") return platform;
    return mergeRevisions(platform, this.#changes.get(organizationId) ?? NO_REVISIONS);
  }
}

/** INVALID_ARGUMENT / INVALID_CONSISTENCY_TOKEN for a token of what has not happened. */
export function unknownRevision(cause?: unknown) {
  return fail(Code.InvalidArgument, "INVALID_CONSISTENCY_TOKEN", "the consistency token is not one of ours", { cause });
}

function end(generation: Generation): void {
  generation.hasEnded = true;
}

/** Roughly, and at most: people with the same rights share much of it (setOf, branchesOf). */
function bytesOf({ rights: { permissions, branches } }: KeptRights): number {
  let names = permissions.size;
  for (const beside of branches.values()) names += beside.size;
  return BYTES_OF_ONE + BYTES_OF_BRANCH * branches.size + BYTES_OF_PERMISSION * names;
}

function nameOf({ organizationId, userId }: Subject): string {
  return `${organizationId}/${userId}`;
}
