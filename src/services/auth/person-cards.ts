/**
 * What tokens are answered with beside rights: somebody's address and names, kept in memory until auth's own feed says that they have
 * changed. What was read while they changed is not kept.
 */
import { type DescMessage, fromBinary } from "@bufbuild/protobuf";
import { eq } from "drizzle-orm";
import { LRUCache } from "lru-cache";
import {
  AccountDeletedSchema,
  AccountEmailChangedSchema,
  AccountNamesChangedSchema,
  SessionEndedSchema,
} from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import type { Event } from "../../../gen/concierge/feed/v1/feed_service_pb.ts";
import { type Db, during } from "../../db/database.ts";
import type { Watcher } from "../../feed/live-follower.ts";
import { authStale } from "../../token/session-check.ts";
import type { Account } from "./accounts.ts";
import { accounts } from "./schema.ts";

export type PersonCard = Pick<Account, "email" | "firstName" | "lastName" | "status">;

const REMEMBERED_CARDS = 100_000;
const QUESTION_TIMEOUT_MS = 1_000;
/** All have the field `user_id`. An account that is disabled ends its sessions. */
const CHANGES = [AccountDeletedSchema, AccountEmailChangedSchema, AccountNamesChangedSchema, SessionEndedSchema];

export class PersonCards {
  readonly #db: Db;
  readonly #known = new LRUCache<string, PersonCard>({ max: REMEMBERED_CARDS });
  readonly #asking = new Map<string, Promise<PersonCard | undefined>>();

  constructor(db: Db) {
    this.#db = db;
  }

  /** Undefined for an account that there is none of any more. UNAVAILABLE / AUTH_STALE. */
  find(userId: string): PersonCard | Promise<PersonCard | undefined> {
    return this.#known.get(userId) ?? this.#asking.get(userId) ?? this.#ask(userId);
  }

  /** For the list of what auth watches. */
  watcher(): Watcher {
    return { source: "auth", types: CHANGES, onEvents: (events) => this.#heed(events) };
  }

  #ask(userId: string): Promise<PersonCard | undefined> {
    const answer = this.#read(userId).then((card) => {
      // Only an active one is kept: nothing tells that another one has become active.
      if (card?.status === "active" && this.#asking.get(userId) === answer) this.#known.set(userId, card);
      return card;
    });
    const forget = () => void (this.#asking.get(userId) === answer && this.#asking.delete(userId));
    answer.then(forget, forget);
    this.#asking.set(userId, answer);
    return answer;
  }

  async #read(userId: string): Promise<PersonCard | undefined> {
    const { email, firstName, lastName, status } = accounts;
    const [card] = await during(this.#db, AbortSignal.timeout(QUESTION_TIMEOUT_MS))
      .select({ email, firstName, lastName, status })
      .from(accounts)
      .where(eq(accounts.id, userId))
      .catch((cause: unknown) => {
        throw authStale(cause);
      });
    return card?.status === "deleted" ? undefined : card;
  }

  /** Without events reading has begun anew: what changed in between is not known. */
  #heed(events: Event[]): void {
    if (events.length === 0) {
      this.#known.clear();
      this.#asking.clear();
    }
    for (const { type, payload } of events) {
      const desc = CHANGES.find(({ typeName }) => typeName === type) as DescMessage;
      const { userId } = fromBinary(desc, payload) as unknown as { userId: string };
      this.#known.delete(userId);
      this.#asking.delete(userId);
    }
  }
}
