/** Verifying access tokens in memory, beside nothing but the check of their signatures. */

import { setImmediate as nextTurn } from "node:timers/promises";
import { hash } from "argon2";
import { v7 as uuidv7 } from "uuid";
import { systemClock as clock } from "../clock.ts";
import { ISSUER } from "../prove/auth-sessions.ts";
import type { Goals } from "../prove/figures.ts";
import { createAccessTokenVerifier, signAccessToken } from "../token/access-token.ts";
import { createSigningKeys } from "../token/key-making.ts";
import { fixedKeyRing, type KeyRing } from "../token/key-ring.ts";
import { createSigner, verificationKeys, verifySignature } from "../token/signing-keys.ts";
import { machineMs } from "./feed-database.ts";
import { median, quantile } from "./figures.ts";

const TOKENS = 2_000;
const ROUNDS = 9;
const REMEMBERED_CALLS = 200_000;
/** Of the mix, one in so many is new. */
const NEW_ONE_IN = 10;
const MIX_CALLS = 20_000;
const HASH = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

/** First times, remembered ones, a mix, and forged ones. */
export async function measureVerification(goals: Goals): Promise<void> {
  const keys = await createSigningKeys("ES256");
  const signer = createSigner(keys);
  const ring = fixedKeyRing(keys);
  const makeToken = (): string => {
    const now = Math.floor(clock.now() / 1_000);
    const claims = { userId: uuidv7(), sessionId: uuidv7(), generation: 0, authenticatedAt: now, expiresAt: now + 300 };
    return signAccessToken(signer, { issuer: ISSUER, clock }, claims);
  };
  const tokens = Array.from({ length: TOKENS }, makeToken);
  const [key] = verificationKeys(keys);
  const bare = tokens.map((token) => {
    const [header, claims, signature] = token.split(".");
    return { data: Buffer.from(`${header}.${claims}`), signature: Buffer.from(signature!, "base64url") };
  });
  const ratios: number[] = [];
  const ours: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const checkedMs = timeOf(() => bare.forEach(({ data, signature }) => void verifySignature(key!, data, signature)));
    const verify = createAccessTokenVerifier(ring, { issuer: ISSUER, clock });
    const verifiedMs = timeOf(() => tokens.forEach((token) => void mustFit(verify(token))));
    ratios.push(verifiedMs / checkedMs);
    ours.push((verifiedMs * 1_000) / TOKENS);
  }
  const raw = `${median(ours).toFixed(1)} us a token`;
  goals.ratioAtMost("P2 verifying a token for the first time / its bare signature", median(ratios), 1.5, raw);
  measureRemembered(goals, ring, tokens.slice(0, 1_000));
  await measureMix(goals, ring, makeToken, "alone", () => {});
  await measureMix(goals, ring, makeToken, "while two passwords are hashed", keepHashing);
  measureForged(goals, ring, tokens);
}

function measureRemembered(goals: Goals, ring: KeyRing, tokens: string[]): void {
  const verify = createAccessTokenVerifier(ring, { issuer: ISSUER, clock });
  for (const token of tokens) verify(token);
  const tookMs = timeOf(() => {
    for (let call = 0; call < REMEMBERED_CALLS; call++) mustFit(verify(tokens[call % tokens.length]!));
  });
  goals.atMost("P2 verifying a remembered token, us", (tookMs * 1_000) / REMEMBERED_CALLS, 5);
}

/** Most were seen before; each call is timed, and the event loop turns between them. */
async function measureMix(
  goals: Goals,
  ring: KeyRing,
  makeToken: () => string,
  when: string,
  begin: (isOver: () => boolean) => void,
): Promise<void> {
  const fresh = Array.from({ length: MIX_CALLS / NEW_ONE_IN }, makeToken);
  const known = Array.from({ length: 500 }, makeToken);
  const verify = createAccessTokenVerifier(ring, { issuer: ISSUER, clock });
  for (const token of known) verify(token);
  let isOver = false;
  begin(() => isOver);
  const tookMs: number[] = [];
  for (let call = 0; call < MIX_CALLS; call++) {
    const token = call % NEW_ONE_IN === 0 ? fresh[call / NEW_ONE_IN]! : known[call % known.length]!;
    tookMs.push(timeOf(() => mustFit(verify(token))));
    if (call % 20 === 0) await nextTurn();
  }
  isOver = true;
  const raw = `p50 ${(quantile(tookMs, 0.5) * 1_000).toFixed(1)} us`;
  goals.atMost(`P2 a mix with a tenth of new tokens, ${when}, p99 ms`, quantile(tookMs, 0.99), 1, raw);
}

function keepHashing(isOver: () => boolean): void {
  const again = async () => {
    while (!isOver()) await hash("of a benchmark", HASH);
  };
  void again();
  void again();
}

/** What a flood of them costs: each has the right form, and a signature that does not fit. */
function measureForged(goals: Goals, ring: KeyRing, tokens: string[]): void {
  const verify = createAccessTokenVerifier(ring, { issuer: ISSUER, clock });
  const forged = tokens.map((token, index) => {
    const [header, claims] = token.split(".");
    return `${header}.${claims}.${tokens[(index + 1) % tokens.length]!.split(".")[2]}`;
  });
  const tookMs = timeOf(() => forged.forEach((token) => void verify(token)));
  goals.info(`P2 forged tokens refused by one processor in a second: ${Math.round((forged.length * 1_000) / tookMs)}`);
}

function mustFit({ ok }: { ok: boolean }): void {
  if (!ok) throw new Error("a good token was refused");
}

function timeOf(work: () => void): number {
  const startMs = machineMs();
  work();
  return machineMs() - startMs;
}
