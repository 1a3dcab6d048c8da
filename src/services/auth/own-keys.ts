/**
 * The keys that auth signs with and publishes: the configured set, without those that were removed in an emergency. Which these are
 * is in the database; every process of auth and of the others hears of it through the feed.
 */

import { sql } from "drizzle-orm";
import { SigningKeyRemovedSchema } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { type Db, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import type { FeedLog } from "../../feed/log.ts";
import type { CallScope } from "../../rpc/call.ts";
import type { KeyRing } from "../../token/key-ring.ts";
import {
  createSigner,
  type KeySet,
  publicKeySet,
  type Signer,
  type VerificationKey,
  verificationKeys,
} from "../../token/signing-keys.ts";
import { audit } from "./audit.ts";
import { signingKeyRemoved } from "./events.ts";
import { removedKeys } from "./schema.ts";
import type { AuthContext } from "./service.ts";

const LONGEST_WAIT_MS = 60_000;

/** auth's own ring: the first key that is left signs. */
export class OwnKeys implements KeyRing {
  generation = 0;
  readonly #db: Db;
  readonly #set: KeySet;
  readonly #signers: Signer[];
  readonly #keys: Map<string, VerificationKey>;

  constructor(set: KeySet, db: Db) {
    this.#set = set;
    this.#db = db;
    this.#signers = set.keys.map((key) => createSigner({ keys: [key] }));
    this.#keys = new Map(verificationKeys(set).map((key) => [key.kid, key]));
  }

  /** What signs now. UNAVAILABLE / NO_SIGNING_KEY when none is left. */
  get signer(): Signer {
    const signer = this.#signers.find(({ kid }) => this.#keys.has(kid));
    if (!signer) throw fail(Code.Unavailable, "NO_SIGNING_KEY", "no key is left to sign access tokens with");
    return signer;
  }

  /** The set for /.well-known/jwks.json. */
  get published(): KeySet {
    return publicKeySet({ keys: this.#set.keys.filter(({ kid }) => this.#keys.has(kid)) });
  }

  find(kid: string): VerificationKey | undefined {
    return this.#keys.get(kid);
  }

  /** Whether it is one of the configured ones. */
  isConfigured(kid: string): boolean {
    return this.#set.keys.some((key) => key.kid === kid);
  }

  /** Whether any would be left without these. */
  outlives(removed: ReadonlySet<string>): boolean {
    return this.#set.keys.some(({ kid }) => !removed.has(kid));
  }

  remove(kid: string): void {
    if (this.#keys.delete(kid)) this.generation += 1;
  }

  /** Reads from the database which ones were removed. */
  async refresh(): Promise<void> {
    for (const { keyId } of await this.#db.select().from(removedKeys)) this.remove(keyId);
  }

  lookAgain(): Promise<void> {
    return Promise.resolve();
  }

  /** Removes keys as soon as any process of auth does. Resolves when the signal aborts. */
  async follow(feed: FeedLog, signal: AbortSignal): Promise<void> {
    const query = { types: new Set([SigningKeyRemovedSchema.typeName]), limit: 100, signal } as const;
    let { next } = await feed.read({ ...query, from: "newest", maxWaitMs: 0 });
    for (;;) {
      // All that was removed before is in there, and what comes after wakes us.
      await this.refresh();
      if (signal.aborted) return;
      ({ next } = await feed.read({ ...query, from: next, maxWaitMs: LONGEST_WAIT_MS }));
    }
  }
}

/** Removes a signing key at once. NOT_FOUND / SIGNING_KEY_NOT_FOUND, FAILED_PRECONDITION / LAST_SIGNING_KEY. */
export async function removeSigningKey({ db, ownKeys }: AuthContext, scope: CallScope, keyId: string): Promise<void> {
  if (!ownKeys.isConfigured(keyId)) {
    throw fail(Code.NotFound, "SIGNING_KEY_NOT_FOUND", "there is no such signing key");
  }
  await transaction(
    db,
    async (tx) => {
      // One at a time: two at once must not leave none.
      await tx.execute(sql`lock table ${removedKeys} in exclusive mode`);
      const removed = new Set((await tx.select().from(removedKeys)).map((row) => row.keyId));
      if (removed.has(keyId)) return;
      if (!ownKeys.outlives(removed.add(keyId))) {
        throw fail(Code.FailedPrecondition, "LAST_SIGNING_KEY", "it is the last signing key: add another one first");
      }
      await tx.insert(removedKeys).values({ keyId });
      await emit(tx, [signingKeyRemoved(keyId)]);
      await audit(tx, scope, { action: "signing_key_removed", reason: keyId });
    },
    { signal: scope.signal },
  );
  ownKeys.remove(keyId);
}
