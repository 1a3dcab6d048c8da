/**
 * Which revisions are the newest, as this process knows it by itself: an answer of the owner told those of an organization, and
 * every change since came by the feeds. Whatever else names revisions no older than these is right as of that question, whoever
 * answered it and whenever: no clocks are compared, and an old answer cannot be passed off as a new one.
 */
import { LRUCache } from "lru-cache";
import { mergeRevisions, type Revisions, revision } from "./revisions.ts";
import type { KnownRights, RightsChange } from "./rights-cache.ts";

interface Confirmed {
  revisions: Revisions;
  askedAt: number;
}

/** One that is pushed out is confirmed by the next question to the owner. */
const MAX_ORGANIZATIONS = 100_000;

export class ConfirmedRevisions {
  readonly #confirmed = new LRUCache<string, Confirmed>({ max: MAX_ORGANIZATIONS });

  /** What the owner has answered about anybody in the organization, no change of which has come meanwhile. */
  confirm(organizationId: string, { rights, askedAt }: KnownRights): void {
    const before = this.#confirmed.get(organizationId);
    this.#confirmed.set(organizationId, {
      revisions: before ? mergeRevisions(before.revisions, rights.revisions) : rights.revisions,
      askedAt: Math.max(askedAt, before?.askedAt ?? askedAt),
    });
  }

  /** Raises what all must know of the organization. What changes the platform for everybody makes all of them unknown. */
  change({ service, organizationId, userId, version }: RightsChange): void {
    if (organizationId === "" && userId === undefined) this.clear();
    const known = this.#confirmed.get(organizationId);
    if (!known) return;
    const revisions = mergeRevisions(known.revisions, revision(service, organizationId, version));
    this.#confirmed.set(organizationId, { ...known, revisions });
  }

  /** Changes may have been missed. */
  clear(): void {
    this.#confirmed.clear();
  }

  has(organizationId: string): boolean {
    return this.#confirmed.has(organizationId);
  }

  /** Since when nothing newer than these is known: the monotonic time of a question. Undefined where something is, or nothing at all. */
  askedAt(organizationId: string, revisions: Revisions): number | undefined {
    const confirmed = this.#confirmed.get(organizationId);
    if (!confirmed) return undefined;
    for (const [subject, version] of revisions) {
      const newest = confirmed.revisions.get(subject);
      if (newest === undefined || version < newest) return undefined;
    }
    return confirmed.askedAt;
  }
}
