/**
 * Who sent a token, decided in this process: by auth's published keys, and by the sessions that auth's feed says have ended. What cannot be
 * told, because the keys are not there yet or the feed is late, is UNAVAILABLE / AUTH_STALE and never a refusal.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../clock.ts";
import type { FeedReader } from "../feed/live-follower.ts";
import type { SimpleLog } from "../simple-log.ts";
import { type AccessClaims, type AccessTokenVerifier, createAccessTokenVerifier } from "../token/access-token.ts";
import { followSessions, type SessionSource, type SessionWatch } from "../token/freshness.ts";
import { type RemoteKeyRing, remoteKeyRing } from "../token/key-ring.ts";
import { authStale, type WhenStale } from "../token/session-check.ts";
import { unauthenticated } from "./answers.ts";

export interface AuthenticatorOptions {
  /** Where auth's internal listener is. */
  url: string;
  ca?: string;
  auth: SessionSource;
  feed: FeedReader;
  issuer: string;
  audiences?: readonly string[];
  clock: Clock;
  log: SimpleLog;
  allowStale: boolean;
  freshMs: number;
}

const KEY_REFRESH_MS = 60_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** For the first keys; a call that comes before them waits so long. */
const PATIENCE_MS = 1_000;

export class Authenticator implements AsyncDisposable {
  readonly #options: AuthenticatorOptions;
  readonly #keyRing: RemoteKeyRing;
  readonly #verify: AccessTokenVerifier;
  readonly #sessions: SessionWatch;
  readonly #stopping = new AbortController();
  readonly #firstKeys = Promise.withResolvers<void>();
  readonly #followingKeys: Promise<void>;

  constructor(options: AuthenticatorOptions) {
    const { url, ca, clock } = options;
    this.#options = options;
    this.#keyRing = remoteKeyRing(new URL("/.well-known/jwks.json", url).href, clock, ca);
    this.#verify = createAccessTokenVerifier(this.#keyRing, options);
    this.#sessions = followSessions({ ...options, onKeyRemoved: (kid) => this.#keyRing.remove(kid) });
    this.#followingKeys = this.#followKeys();
  }

  /** Resolves when the keys are there and the sessions that have ended are known. */
  async ready(): Promise<void> {
    await Promise.all([this.#firstKeys.promise, this.#sessions.caughtUp]);
  }

  /** Monotonic time at which everything was known. */
  get freshAt(): number | undefined {
    return this.#sessions.freshAt;
  }

  /** What a token says. UNAUTHENTICATED, UNAVAILABLE / AUTH_STALE. */
  async claimsOf(token: string): Promise<AccessClaims> {
    let verified = this.#verify(token);
    if (!verified.ok && verified.why === "unknown_kid") {
      await (this.#hasKeys ? this.#keyRing.lookAgain() : this.#waitForKeys());
      verified = this.#verify(token);
    }
    if (verified.ok) return verified.claims;
    // While auth cannot be reached there may be a key that nobody here has heard of.
    if (verified.why === "unknown_kid" && !(this.#hasKeys && this.#isFresh)) throw authStale();
    throw unauthenticated();
  }

  /** Refuses a session that has ended. UNAUTHENTICATED, UNAVAILABLE / AUTH_STALE. */
  async requireLive(claims: AccessClaims, whenStale: WhenStale): Promise<void> {
    const live = this.#sessions.check(claims, whenStale);
    if (live !== true && !(await live)) throw unauthenticated();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await Promise.all([this.#followingKeys, this.#sessions[Symbol.asyncDispose]()]);
  }

  get #hasKeys(): boolean {
    return this.#keyRing.generation > 0;
  }

  get #isFresh(): boolean {
    const { clock, freshMs } = this.#options;
    return this.freshAt !== undefined && clock.monotonic() - this.freshAt <= freshMs;
  }

  #waitForKeys(): Promise<void> {
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(PATIENCE_MS)]);
    return Promise.race([this.#firstKeys.promise, untilAborted(signal)]);
  }

  async #followKeys(): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; ) {
      try {
        await this.#keyRing.refresh();
        this.#firstKeys.resolve();
        failures = 0;
      } catch (error) {
        if (failures === 0 && !this.#hasKeys) this.#options.log.warn({ error }, "waits for the signing keys of auth");
        failures += 1;
      }
      const pauseMs = failures === 0 ? KEY_REFRESH_MS : Math.min(FIRST_PAUSE_MS * 2 ** failures, LONGEST_PAUSE_MS);
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  if (signal.aborted) resolve();
  return promise;
}
