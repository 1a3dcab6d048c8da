/**
 * The public keys that access tokens are verified with. auth has its own (own-keys.ts); everybody else's ring follows auth's
 * JWKS: fetched at start until it is there, again once a minute, and at an unknown key id at most once in 30 seconds, so that a
 * flood of invented ids costs auth nothing.
 */
import http from "node:http";
import https from "node:https";
import { text as textOf } from "node:stream/consumers";
import type { Clock } from "../clock.ts";
import { type KeySet, type VerificationKey, verificationKeys } from "./signing-keys.ts";

const FETCH_TIMEOUT_MS = 2_000;
const UNKNOWN_KEY_INTERVAL_MS = 30_000;

export interface KeyRing {
  /** Grows with every change, so that what was verified with another ring is verified anew. */
  readonly generation: number;
  find(kid: string): VerificationKey | undefined;
  /** Looks for keys again because a token names one that is not here. Resolves when that was done, or at once if it was done lately. */
  lookAgain(): Promise<void>;
  /** Fetches now. Rejects when the keys cannot be had; the ring stays as it was. */
  refresh(): Promise<void>;
}

/** A ring from which single keys may be taken. */
export interface RemoteKeyRing extends KeyRing {
  /** For ever, whatever is published: until every process of auth knows of it, one may still publish the key. */
  remove(kid: string): void;
}

/** A ring that never changes. */
export function fixedKeyRing(set: KeySet): KeyRing {
  const keys = byId(set);
  return {
    generation: 0,
    find: (kid) => keys.get(kid),
    lookAgain: () => Promise.resolve(),
    refresh: () => Promise.resolve(),
  };
}

/** A ring that follows the JWKS at `url`. `ca` (PEM) certifies its server, instead of the well-known authorities. */
export function remoteKeyRing(url: string, clock: Clock, ca?: string): RemoteKeyRing {
  const removed = new Set<string>();
  let keys: Map<string, VerificationKey> | undefined;
  let published = "";
  let generation = 0;
  let fetching: Promise<void> | undefined;
  let lookedAt = Number.NEGATIVE_INFINITY;

  async function fetchKeys(): Promise<void> {
    const text = await fetchText(url, ca);
    if (text === published) return;
    keys = byId(JSON.parse(text) as KeySet);
    for (const kid of removed) keys.delete(kid);
    published = text;
    generation += 1;
  }

  function refresh(): Promise<void> {
    fetching ??= fetchKeys().finally(() => {
      fetching = undefined;
    });
    return fetching;
  }

  return {
    get generation() {
      return generation;
    },
    find: (kid) => keys?.get(kid),
    refresh,
    remove(kid) {
      removed.add(kid);
      if (keys?.delete(kid)) generation += 1;
    },
    async lookAgain() {
      if (fetching) return fetching.catch(() => {});
      if (clock.monotonic() - lookedAt < UNKNOWN_KEY_INTERVAL_MS) return;
      lookedAt = clock.monotonic();
      // A failure leaves the ring as it was: the token stays refused, which is what the caller finds out next.
      await refresh().catch(() => {});
    },
  };
}

function byId(set: KeySet): Map<string, VerificationKey> {
  return new Map(verificationKeys(set).map((key) => [key.kid, key]));
}

/** What is at a URL. Not by fetch(), which cannot be told whom to trust. */
async function fetchText(url: string, ca: string | undefined): Promise<string> {
  const { get } = url.startsWith("https:") ? https : http;
  const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  get(url, { agent: false, ca, minVersion: "TLSv1.2", rejectUnauthorized: true, signal }, resolve).on("error", reject);
  const response = await promise;
  if (response.statusCode !== 200) {
    response.destroy();
    throw new Error(`the key set answered with HTTP status ${response.statusCode}`);
  }
  return textOf(response);
}
