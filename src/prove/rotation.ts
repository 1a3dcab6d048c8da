/**
 * `make prove/rotation`: signing keys are published, activated and retired twenty times (R-KEY-01, G9), as `concierge keys rotate` says
 * it, with two processes of auth that are restarted one after the other at each step, while 300 calls a second are verified with tokens
 * that live five seconds. Nobody may be refused. What verifiers do once a minute is done at once instead. QUICK=1: three times.
 */
import { setTimeout as delay } from "node:timers/promises";
import { machineLine } from "../bench/figures.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import { createLogger } from "../log.ts";
import { greeter } from "../services/greeter/service.ts";
import { type AccessClaims, createAccessTokenVerifier, signAccessToken } from "../token/access-token.ts";
import { createServiceKey, createSigningKeys } from "../token/key-making.ts";
import { createSigner, type SetKey } from "../token/signing-keys.ts";
import { usersOfAuth } from "../users.ts";
import { ISSUER, makeSessions, type Session } from "./auth-sessions.ts";
import { type AuthReplica, type AuthSetting, openAuthSetting } from "./auth-setting.ts";
import { Goals } from "./figures.ts";
import { clientAt, newKey } from "./refresh-client.ts";

const { QUICK } = process.env;
const ROTATIONS = QUICK ? 3 : 20;
const PEOPLE = 100;
const CALLS_PER_SECOND = 300;
const TOKEN_SECONDS = 5;
/** A person refreshes this often, so that there always is a token that lives. */
const REFRESH_MS = 2_000;
const TRY_AGAIN_MS = 20;

/** Who verifies, as every service but auth does. */
interface Verifier {
  /** Undefined if the token is good and its session lives, else why not. */
  refusalOf(token: string): Promise<string | undefined>;
  /** What is done once a minute. */
  fetchKeys(): Promise<void>;
}

interface Load {
  verified: number;
  /** Why somebody with a token that lives was refused. */
  refusals: Map<string, number>;
}

async function main(): Promise<number> {
  const goals = new Goals("G9");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const key = createServiceKey("greeter", "auth", "service");
  const variables = { CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: String(TOKEN_SECONDS) };
  const setting = await openAuthSetting([key], opened, { variables });
  const verifiers = await Promise.all(
    setting.replicas.map(({ internalUrl }) => openVerifier({ key, authUrl: internalUrl }, opened)),
  );
  const people = await makeSessions(setting.sql, setting.keys, PEOPLE);
  const ended = new AbortController();
  const load: Load = { verified: 0, refusals: new Map() };
  const running = [
    ...people.map((person) => refreshOn(person, setting, ended.signal)),
    verifyOn(people, verifiers, load, ended.signal),
  ];
  const retired = await rotate(setting, verifiers, people[0]!);
  ended.abort();
  await Promise.all(running);
  const refused = [...load.refusals.values()].reduce((sum, count) => sum + count, 0);
  const why = [...load.refusals].map(([reason, count]) => `${reason}: ${count}`).join(", ");
  goals.atLeast("R-KEY-01 rotations", retired.length, ROTATIONS);
  goals.atMost(`R-KEY-01 refused in ${load.verified} calls with tokens that live`, refused, 0, why);
  const early = retired.filter(({ before }) => before > 0).length;
  const late = retired.filter(({ after }) => after < verifiers.length).length;
  goals.atMost("R-KEY-01 keys refused before they were retired", early, 0);
  goals.atMost("R-KEY-01 keys accepted after they were retired", late, 0);
  return goals.missed === 0 ? 0 : 1;
}

async function openVerifier(
  { key, authUrl }: { key: ReturnType<typeof createServiceKey>; authUrl: string },
  opened: AsyncDisposableStack,
): Promise<Verifier> {
  const log = createLogger({ level: "error", mode: "production" });
  const connection = opened.use(connectService({ baseUrl: authUrl, key, clock }));
  const options = { config: { authUrl }, localUrl: () => undefined, clock, log, allowStale: false };
  const users = usersOfAuth(greeter, new Map([["auth", connection]]), options);
  await users.keyRing.refresh();
  await opened.use(users.followSessions!()).caughtUp;
  const verify = createAccessTokenVerifier(users.keyRing, { issuer: ISSUER, clock });
  return {
    fetchKeys: () => users.keyRing.refresh(),
    async refusalOf(token) {
      const verified = verify(token);
      if (!verified.ok) return verified.why;
      return (await users.checkSession(verified.claims, "closed")) ? undefined : "session_ended";
    },
  };
}

/** Refreshes one person's session again and again, at whichever process answers. */
async function refreshOn(person: Session, { replicas }: AuthSetting, ended: AbortSignal): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const clients = replicas.map(({ publicUrl }) => clientAt(publicUrl, opened));
  await delay(Math.random() * REFRESH_MS);
  for (let turn = 0; !ended.aborted; turn++) {
    const call = { refreshToken: person.refreshToken, idempotencyKey: newKey() };
    for (let tries = turn; ; tries++) {
      const answer = await clients[tries % clients.length]!.refreshToken(call).catch(() => undefined);
      if (answer) Object.assign(person, { accessToken: answer.accessToken, refreshToken: answer.refreshToken });
      if (answer || ended.aborted) break;
      await delay(TRY_AGAIN_MS);
    }
    await delay(REFRESH_MS);
  }
}

async function verifyOn(people: Session[], verifiers: Verifier[], load: Load, ended: AbortSignal): Promise<void> {
  // Until everybody has a token of auth's own making.
  await delay(2 * REFRESH_MS);
  const startedAt = clock.monotonic();
  for (let call = 0; !ended.aborted; call++) {
    const dueMs = startedAt + (call * 1_000) / CALLS_PER_SECOND - clock.monotonic();
    if (dueMs > 0) await delay(dueMs);
    const { accessToken } = people[call % people.length]!;
    const why = await verifiers[call % verifiers.length]!.refusalOf(accessToken).catch((error: Error) => error.message);
    load.verified += 1;
    if (why !== undefined) load.refusals.set(why, (load.refusals.get(why) ?? 0) + 1);
  }
}

/** How many verifiers refused a token of the old key before it was retired, and after. */
interface Retired {
  before: number;
  after: number;
}

async function rotate(setting: AuthSetting, verifiers: Verifier[], person: Session): Promise<Retired[]> {
  const retired: Retired[] = [];
  let replicas: AuthReplica[] = setting.replicas;
  let keys = setting.keys.keys;
  const roll = async (changed: SetKey[]) => {
    keys = changed;
    const variables = { CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify({ keys }) };
    const restarted: AuthReplica[] = [];
    for (const replica of replicas) {
      await replica.worker.call("stop");
      await replica.worker[Symbol.asyncDispose]();
      restarted.push(await setting.startReplica(replica, variables));
    }
    replicas = restarted;
    await Promise.all(verifiers.map((verifier) => verifier.fetchKeys()));
  };
  while (retired.length < ROTATIONS) {
    await roll([...keys, ...(await createSigningKeys("ES256")).keys]);
    await roll([...keys.slice(-1), ...keys.slice(0, -1)]);
    const token = tokenOf(person, keys.at(-1)!);
    await delay(TOKEN_SECONDS * 1_000);
    const before = await refusals(verifiers, token);
    await roll(keys.slice(0, 1));
    retired.push({ before, after: await refusals(verifiers, token) });
    process.stderr.write(`rotation ${retired.length} of ${ROTATIONS}\n`);
  }
  return retired;
}

/** One that would live for long, signed with an old key. */
function tokenOf({ userId, sessionId }: Session, key: SetKey): string {
  const nowSeconds = Math.floor(clock.now() / 1_000);
  const times = { authenticatedAt: nowSeconds, expiresAt: nowSeconds + 300 };
  const claims: AccessClaims = { userId, sessionId, generation: 0, ...times };
  return signAccessToken(createSigner({ keys: [key] }), { issuer: ISSUER, clock }, claims);
}

async function refusals(verifiers: Verifier[], token: string): Promise<number> {
  const answers = await Promise.all(verifiers.map((verifier) => verifier.refusalOf(token)));
  return answers.filter((why) => why !== undefined).length;
}

process.exitCode = await main();
