/**
 * What a session knows: what its store held at the last look, which organization it acts in, and how far that has been seen to
 * go. Whoever listens is told when the person or the organization has changed.
 */
import { SeenRevisions } from "./consistency.ts";
import type { SessionOptions } from "./session.ts";
import { type AccessToken, memoryStore, type SessionStore, type Stored, type StoredSession } from "./session-store.ts";
import { accessTokenFor } from "./session-tokens.ts";

export class SessionState {
  /** Empty for Concierge's own services. */
  readonly audience: string;
  /** Of the person who is signed in. */
  readonly seen = new SeenRevisions();
  readonly #store: SessionStore;
  /** Empty for the person's last one. */
  readonly #wantedOrganizationId: string;
  readonly #onSignedOut: () => void;
  readonly #listeners = new Set<() => void>();
  #endStoreChanges = () => {};
  #stored: Stored = {};
  #organizationId: string;

  constructor({ store = memoryStore(), audience = "", organizationId = "", onSignedOut = () => {} }: SessionOptions) {
    this.audience = audience;
    this.#store = store;
    this.#wantedOrganizationId = organizationId.toLowerCase();
    this.#onSignedOut = onSignedOut;
    this.#organizationId = this.#wantedOrganizationId;
  }

  /** Reads the store, and from then on hears of what others write. */
  async open(): Promise<void> {
    await this.look();
    this.#endStoreChanges = this.#store.onChange?.(() => void this.#lookOrWait()) ?? this.#endStoreChanges;
  }

  close(): void {
    this.#endStoreChanges();
    this.#listeners.clear();
  }

  get session(): StoredSession | undefined {
    return this.#stored.session;
  }

  /** Empty before the first login. */
  get deviceToken(): string {
    return this.#stored.deviceToken ?? "";
  }

  /** UUID; empty for none. */
  get organizationId(): string {
    return this.#organizationId;
  }

  /** The one for this organization, however old it is. */
  tokenFor(organizationId: string): AccessToken | undefined {
    return accessTokenFor(this.session, { organizationId, audience: this.audience });
  }

  /** As SessionStore has it. */
  exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    return this.#store.exclusively(work);
  }

  /** What is stored now. */
  async look(): Promise<StoredSession | undefined> {
    this.#see(await this.#store.read());
    return this.session;
  }

  /** Stores a session, or that there is none. By which the device is known stays as it was unless it is given. */
  async keep(session: StoredSession | undefined, deviceToken = this.#stored.deviceToken): Promise<void> {
    const stored = { deviceToken, session };
    await this.#store.write(stored);
    this.#see(stored);
  }

  /** Later calls are made in this organization; empty for none. */
  act(organizationId: string): void {
    if (organizationId === this.#organizationId) return;
    this.#organizationId = organizationId;
    this.#tell();
  }

  /** The person may act in it no more: later calls are made in the last one, or in none, unless this is the only one wanted. */
  leave(organizationId: string): void {
    if (organizationId === this.#organizationId && organizationId !== this.#wantedOrganizationId) this.act("");
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What cannot be read now is read, or complained of, at the next call. */
  async #lookOrWait(): Promise<void> {
    await this.look().catch(() => {});
  }

  #see(stored: Stored): void {
    const earlier = this.session?.userId;
    this.#stored = stored;
    if (earlier === stored.session?.userId) return;
    this.seen.clear();
    this.#organizationId = this.#wantedOrganizationId || (stored.session?.accessTokens[0]?.organizationId ?? "");
    if (!stored.session) this.#onSignedOut();
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
