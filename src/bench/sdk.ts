/**
 * `make bench/sdk`: what the client costs its caller. Verifying tokens beside nothing but the check of their signatures (P2), deciding
 * permissions in memory while 1,000 changes a second come in (P3), memory after 1,000,000 tokens that were never seen before, and how
 * often auth is asked when 1,000 calls bring the same new token at once. QUICK=1: 100,000 tokens. Ends with 1 if a goal is missed.
 */
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { v7 as uuidv7 } from "uuid";
import { RoleAssignedSchema } from "../../gen/concierge/access/v1/access_events_pb.ts";
import { type AuthClient, createAuthClient } from "../client/index.ts";
import { systemClock as clock } from "../clock.ts";
import { openDatabase, transaction } from "../db/database.ts";
import { emit, event } from "../feed/emit.ts";
import { FeedLog } from "../feed/log.ts";
import { createLogger } from "../log.ts";
import { ISSUER, makeSessions } from "../prove/auth-sessions.ts";
import { Goals } from "../prove/figures.ts";
import type { Replica } from "../prove/replica.ts";
import { signAccessToken } from "../token/access-token.ts";
import { createSigner, verificationKeys, verifySignature } from "../token/signing-keys.ts";
import { type AccessSetting, grow, openAccessSetting, type Person } from "./access-setting.ts";
import { machineMs } from "./feed-database.ts";
import { machineLine, median, quantile } from "./figures.ts";

const { QUICK } = process.env;
const TOKENS = 2_000;
const ROUNDS = 9;
const REMEMBERED_CALLS = 200_000;
const MIX_CALLS = 20_000;
/** Of the mix, one in so many is new. */
const NEW_ONE_IN = 10;
const ORGANIZATIONS = 20;
const CHANGES_PER_SECOND = 1_000;
const CHANGES_EVERY_MS = 50;
const DECISIONS_MS = 10_000;
/** Decisions between two turns of the event loop, in which changes come in. */
const DECISIONS_PER_TURN = 100;
const DISTINCT_TOKENS = QUICK ? 100_000 : 1_000_000;
const TOKENS_BEFORE = 50_000;
const MAX_GROWTH_MEGABYTES = 32;
const STAMPEDE = 1_000;
const CALLS_OF_VERIFY_TOKEN =
  /^rpc_server_call_duration_seconds_count\{.*AuthInternalService\/VerifyToken.*\} (\d+)$/gm;

interface Setting {
  goals: Goals;
  setting: AccessSetting;
  replica: Replica;
  client: AuthClient;
  makeToken(person?: Person & { sessionId?: string }): string;
}

async function main(): Promise<number> {
  const goals = new Goals("sdk");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const setting = await openAccessSetting(opened);
  const people = await grow(setting, ORGANIZATIONS);
  const replica = opened.use(await setting.start());
  const openClient = async () => {
    const keys = ["auth", "access", "organization"].map((callee) => setting.keyOf(callee));
    const client = createAuthClient({ url: replica.internalUrl, keys: { keys }, issuer: ISSUER });
    await client.ready;
    return client;
  };
  const signer = createSigner(setting.signingKeys);
  const makeToken: Setting["makeToken"] = (
    { userId = uuidv7(), organizationId, sessionId = uuidv7() } = {} as never,
  ) => {
    const now = Math.floor(clock.now() / 1_000);
    const times = { authenticatedAt: now, expiresAt: now + 300 };
    const claims = { userId, sessionId, organizationId, generation: 0, ...times };
    return signAccessToken(signer, { issuer: ISSUER, clock }, claims);
  };
  const parts = { goals, setting, replica, makeToken };
  await measureFirstTimes(parts, openClient);
  const client = opened.use(await openClient());
  await measureRemembered({ ...parts, client });
  await measureMix({ ...parts, client });
  await measureDecisions({ ...parts, client }, people);
  await measureStampede({ ...parts, client });
  await measureMemory({ ...parts, client });
  goals.info(`at the end: ${machineLine()}`);
  return goals.missed === 0 ? 0 : 1;
}

/** In turns with bare checks of the same signatures. */
async function measureFirstTimes(
  { goals, setting, makeToken }: Omit<Setting, "client">,
  openClient: () => Promise<AuthClient>,
): Promise<void> {
  const tokens = Array.from({ length: TOKENS }, () => makeToken());
  const [key] = verificationKeys(setting.signingKeys);
  const bare = tokens.map((token) => {
    const [header, claims, signature] = token.split(".");
    return { data: Buffer.from(`${header}.${claims}`), signature: Buffer.from(signature!, "base64url") };
  });
  const [ratios, ours]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = machineMs();
    for (const { data, signature } of bare) verifySignature(key!, data, signature);
    const bareMs = machineMs() - startMs;
    await using client = await openClient();
    const begunMs = machineMs();
    for (const token of tokens) await client.authenticate(token);
    const tookMs = machineMs() - begunMs;
    ratios.push(tookMs / bareMs);
    ours.push((tookMs * 1_000) / TOKENS);
  }
  const raw = `${median(ours).toFixed(1)} us a token`;
  goals.ratioAtMost("P2 authenticate() for the first time / its bare signature", median(ratios), 1.5, raw);
}

async function measureRemembered({ goals, client, makeToken }: Setting): Promise<void> {
  const tokens = Array.from({ length: 1_000 }, () => makeToken());
  for (const token of tokens) await client.authenticate(token);
  const startMs = machineMs();
  for (let call = 0; call < REMEMBERED_CALLS; call++) await client.authenticate(tokens[call % tokens.length]!);
  goals.atMost("P2 authenticate() of a remembered token, us", ((machineMs() - startMs) * 1_000) / REMEMBERED_CALLS, 5);
}

/** Most were seen before; each call is timed, and the event loop turns between them. */
async function measureMix({ goals, client, makeToken }: Setting): Promise<void> {
  const fresh = Array.from({ length: MIX_CALLS / NEW_ONE_IN }, () => makeToken());
  const known = Array.from({ length: 500 }, () => makeToken());
  for (const token of known) await client.authenticate(token);
  const tookMs: number[] = [];
  for (let call = 0; call < MIX_CALLS; call++) {
    const token = call % NEW_ONE_IN === 0 ? fresh[call / NEW_ONE_IN]! : known[call % known.length]!;
    const startMs = machineMs();
    await client.authenticate(token);
    tookMs.push(machineMs() - startMs);
    if (call % 20 === 0) await nextTurn();
  }
  const raw = `p50 ${(quantile(tookMs, 0.5) * 1_000).toFixed(1)} us`;
  goals.atMost("P2 authenticate(), a mix with a tenth of new tokens, p99 ms", quantile(tookMs, 0.99), 1, raw);
}

/** Of people whose rights are known, while those of others in the same organizations change. */
async function measureDecisions({ goals, setting, client }: Setting, people: Person[]): Promise<void> {
  const asked = people.slice(0, 500);
  const others = people.slice(500);
  const before = memoryMegabytes();
  for (const person of people) await client.decidePermission({ ...person, permission: "product1:read" });
  const bytes = ((memoryMegabytes() - before) * 1024 * 1024) / people.length;
  goals.info(`P3 bytes for each of ${people.length} people in an organization: ${Math.round(bytes)}`);
  const end = new AbortController();
  const changing = change(setting, others, end.signal);
  const tookMs: number[] = [];
  const wrong = { answers: 0 };
  const expected = new Map<Person, string>();
  for (const person of asked) {
    expected.set(person, await client.decidePermission({ ...person, permission: "product1:read" }));
  }
  const startMs = machineMs();
  while (machineMs() - startMs < DECISIONS_MS) {
    for (let call = 0; call < DECISIONS_PER_TURN; call++) {
      const person = asked[Math.floor(Math.random() * asked.length)]!;
      const sentMs = machineMs();
      const decision = await client.decidePermission({ ...person, permission: "product1:read" });
      tookMs.push(machineMs() - sentMs);
      if (decision !== expected.get(person)) wrong.answers++;
    }
    await nextTurn();
  }
  end.abort();
  const changes = await changing;
  const seconds = (machineMs() - startMs) / 1_000;
  const raw = `p50 ${(quantile(tookMs, 0.5) * 1_000).toFixed(2)} us, ${tookMs.length} decisions, ${Math.round(changes / seconds)} changes a second`;
  goals.atMost("P3 decidePermission() in memory, p99 us", quantile(tookMs, 0.99) * 1_000, 5, raw);
  goals.atMost("P3 wrong decisions", wrong.answers, 0);
}

/** Publishes changes of these people's roles as access does; returns how many. */
async function change(setting: AccessSetting, people: Person[], end: AbortSignal): Promise<number> {
  const url = setting.runtimeUrl("access");
  const log = createLogger({ level: "error", mode: "development" });
  await using database = openDatabase({ url, poolSize: 2, applicationName: "bench/sdk" });
  await using feed = new FeedLog({ service: "access", url, db: database.db, log });
  feed.begin();
  const startedAt = clock.monotonic();
  let count = 0;
  while (!end.aborted) {
    const due = Math.floor(((clock.monotonic() - startedAt) * CHANGES_PER_SECOND) / 1_000) - count;
    const events = Array.from({ length: due }, (_, index) => {
      const { userId, organizationId } = people[(count + index) % people.length]!;
      return event(RoleAssignedSchema, `organization/${organizationId}`, { userId, organizationId, role: "role-1" });
    });
    if (events.length > 0) await transaction(database.db, async (tx) => void (await emit(tx, events)));
    count += events.length;
    await delay(CHANGES_EVERY_MS);
  }
  return count;
}

async function measureStampede({ goals, setting, replica, client, makeToken }: Setting): Promise<void> {
  const [session] = await makeSessions(setting.sql.auth!, setting.signingKeys, 1);
  const token = makeToken({ ...session!, organizationId: undefined as never });
  const before = await questions(replica);
  const startMs = machineMs();
  const answers = await Promise.all(Array.from({ length: STAMPEDE }, () => client.verifyToken(token)));
  const raw = `${answers.length} answers in ${(machineMs() - startMs).toFixed(1)} ms`;
  goals.atMost(`calls of auth for ${STAMPEDE} at once with one new token`, (await questions(replica)) - before, 1, raw);
}

async function questions({ internalUrl }: Replica): Promise<number> {
  const metrics = await (await fetch(`${internalUrl}/metrics`)).text();
  return [...metrics.matchAll(CALLS_OF_VERIFY_TOKEN)].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** What is remembered has a bound: after the first of them, all others together add nothing that lasts. */
async function measureMemory({ goals, client, makeToken }: Setting): Promise<void> {
  const bring = async (tokens: number) => {
    for (let count = 0; count < tokens; count++) {
      await client.authenticate(makeToken());
      // What the client follows must come in.
      if (count % 100 === 0) await nextTurn();
    }
  };
  await bring(TOKENS_BEFORE);
  const before = memoryMegabytes();
  await bring(DISTINCT_TOKENS - TOKENS_BEFORE);
  const grown = memoryMegabytes() - before;
  const raw = `${memoryMegabytes().toFixed(0)} MB in use, of which the client's and this benchmark's`;
  goals.atMost(`MB more after ${DISTINCT_TOKENS} tokens than after ${TOKENS_BEFORE}`, grown, MAX_GROWTH_MEGABYTES, raw);
}

/** After everything that can be collected has been. */
function memoryMegabytes(): number {
  if (!globalThis.gc) throw new Error("run with --expose-gc");
  globalThis.gc();
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1024 / 1024;
}

process.exitCode = await main();
