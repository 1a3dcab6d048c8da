/**
 * Rights in memory. What was asked once is kept until the feeds say that it has changed; an answer that was on its way when its
 * organization changed is not kept, however late it comes, unless it knows of the change (R-CON-06). Whether what is kept may decide is a
 * question of freshness, which belongs to whoever follows the feeds (rights-watch.ts).
 */
import { LRUCache } from "lru-cache";
import { covers, mergeRevisions, NO_REVISIONS, type Revisions, revision } from "./revisions.ts";
import type { Rights, Subject } from "./rights.ts";

/** Asks the owner. The answer must know at least what is wanted. */
export type LoadRights = (subject: Subject, wanted: Revisions, signal: AbortSignal) => Promise<Rights>;

/** Rights, and the monotonic time at which the question was sent whose answer they are. */
export interface KnownRights {
  rights: Rights;
  askedAt: number;
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

interface Question {
  organizationId: string;
  /** What its answer must know; raised by changes that come meanwhile. */
  wanted: Revisions;
}

export interface RightsCacheOptions {
  load: LoadRights;
  /** Monotonic milliseconds. */
  now(): number;
  /** People's rights to keep; default 100,000. */
  size?: number;
}

const DEFAULT_SIZE = 100_000;
/** Changed organizations whose newest revision is remembered, so that an owner who is behind another one is not believed. */
const REMEMBERED_CHANGES = 100_000;
const QUESTION_TIMEOUT_MS = 1_000;
const MAX_QUESTIONS = 3;

export class RightsCache {
  readonly #options: RightsCacheOptions;
  readonly #known: LRUCache<string, KnownRights>;
  /** The people of each organization whose rights are kept. */
  readonly #people = new Map<string, Set<string>>();
  readonly #asking = new Map<string, { question: Question; answer: Promise<KnownRights> }>();
  readonly #changes = new LRUCache<string, Revisions>({ max: REMEMBERED_CHANGES });

  constructor(options: RightsCacheOptions) {
    this.#options = options;
    this.#known = new LRUCache({
      max: options.size ?? DEFAULT_SIZE,
      disposeAfter: (_, name) => this.#forgetName(name),
    });
  }

  get size(): number {
    return this.#known.size;
  }

  /** What is kept, if it knows what is wanted. */
  get(subject: Subject, wanted: Revisions = NO_REVISIONS): KnownRights | undefined {
    const known = this.#known.get(nameOf(subject));
    return known && covers(known.rights.revisions, wanted) ? known : undefined;
  }

  /** Asks the owner, once for all who ask at the same time, until the answer knows what is wanted. */
  async ask(subject: Subject, wanted: Revisions = NO_REVISIONS): Promise<KnownRights> {
    for (let questions = 1; ; questions++) {
      const known = await this.#askOnce(subject, wanted);
      const needed = mergeRevisions(wanted, this.#changesOf(subject.organizationId));
      if (covers(known.rights.revisions, needed)) return known;
      if (questions === MAX_QUESTIONS) throw new Error("the owner of rights knows less than what is known here");
    }
  }

  /** Forgets what a change makes wrong, and remembers that whoever answers must know of it. */
  change({ service, organizationId, userId, version }: RightsChange): void {
    const made = revision(service, organizationId, version);
    this.#changes.set(organizationId, mergeRevisions(this.#changes.get(organizationId) ?? NO_REVISIONS, made));
    for (const { question } of this.#asking.values()) {
      const concerns = organizationId === "" || question.organizationId === organizationId;
      if (concerns) question.wanted = mergeRevisions(question.wanted, made);
    }
    if (organizationId === "" && userId === undefined) this.#known.clear();
    else if (userId !== undefined) this.#known.delete(nameOf({ userId, organizationId }));
    else for (const person of [...(this.#people.get(organizationId) ?? [])]) this.#known.delete(person);
  }

  /** Forgets everything: changes may have been missed. */
  clear(): void {
    this.#known.clear();
    // Their answers may know nothing of what was missed.
    this.#asking.clear();
  }

  #askOnce(subject: Subject, wanted: Revisions): Promise<KnownRights> {
    const name = nameOf(subject);
    const running = this.#asking.get(name);
    if (running) return running.answer;
    const needed = mergeRevisions(wanted, this.#changesOf(subject.organizationId));
    const question = { organizationId: subject.organizationId, wanted: needed };
    const answer = this.#load(name, subject, question);
    this.#asking.set(name, { question, answer });
    return answer;
  }

  async #load(name: string, subject: Subject, question: Question): Promise<KnownRights> {
    const askedAt = this.#options.now();
    try {
      const rights = await this.#options.load(subject, question.wanted, AbortSignal.timeout(QUESTION_TIMEOUT_MS));
      const known = { rights, askedAt };
      const isCurrent = this.#isAsking(name, question) && covers(rights.revisions, question.wanted);
      if (isCurrent) this.#keep(name, subject, known);
      return known;
    } finally {
      if (this.#isAsking(name, question)) this.#asking.delete(name);
    }
  }

  #isAsking(name: string, question: Question): boolean {
    return this.#asking.get(name)?.question === question;
  }

  #keep(name: string, { organizationId }: Subject, known: KnownRights): void {
    this.#known.set(name, known);
    const people = this.#people.get(organizationId);
    if (people) people.add(name);
    else this.#people.set(organizationId, new Set([name]));
  }

  #forgetName(name: string): void {
    if (this.#known.has(name)) return;
    const organizationId = name.slice(0, name.indexOf("/"));
    const people = this.#people.get(organizationId);
    people?.delete(name);
    if (people?.size === 0) this.#people.delete(organizationId);
  }

  /** What is known to have changed: of the organization, and of the platform. */
  #changesOf(organizationId: string): Revisions {
    const platform = this.#changes.get("") ?? NO_REVISIONS;
    if (organizationId === "") return platform;
    return mergeRevisions(platform, this.#changes.get(organizationId) ?? NO_REVISIONS);
  }
}

function nameOf({ organizationId, userId }: Subject): string {
  return `${organizationId}/${userId}`;
}
