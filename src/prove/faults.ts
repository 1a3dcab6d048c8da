/**
 * `make prove/faults`: the client that other teams use, while the way to auth, to access, to auth's REST or to Redis fails in one of
 * six ways. Prints what became of its answers in each case, and demands that none was wrong, that nobody was taken for logged out, and
 * that each call ended. REST is only asked when RPCs do not get through, so in its row auth is cut off, too; last, what it costs is
 * compared with what RPCs cost. QUICK=1 takes a third of the time.
 */
import { setTimeout as delay } from "node:timers/promises";
import { decodeJwt } from "jose";
import { startRedis } from "../../test/engines/redis.ts";
import { machineLine, quantile } from "../bench/figures.ts";
import { type AuthClient, createAuthClient } from "../client/auth-client.ts";
import { systemClock } from "../clock.ts";
import { Code } from "../errors.ts";
import { type FaultProxy, startFaultProxy } from "../testing/fault-proxy.ts";
import { makeOrganization } from "../testing/memberships.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { FRESH_MS } from "../token/freshness.ts";
import { Goals } from "./figures.ts";

/** Past the freshness bound, unless it is to be quick: then most is still decided from memory. */
const FAULT_MS = process.env.QUICK ? 2_000 : 6_500;
const CALLERS = 4;
const PAUSE_MS = 10;
const SLOW_MS = 150;
const BROKEN_SHARE = 0.05;
const SLICE_MS = 20;
const FALLBACK_CALLS = 2_000;
/** What one call may take with all its tries (resilience.ts), and a little for a machine that is busy. */
const LONGEST_MS = 5_000 + 2_000 + 1_000;

const TARGETS = ["auth", "access", "REST", "Redis"] as const;
type Target = (typeof TARGETS)[number];
type Proxies = Record<Target, FaultProxy>;

/** Each breaks a proxy until the signal says that it is over. */
const FAULTS: Record<string, (proxy: FaultProxy, over: AbortSignal) => Promise<void>> = {
  refuse: async (proxy) => proxy.cut(),
  hang: async (proxy) => proxy.hang(),
  "reset mid-stream": (proxy, over) =>
    inSlices(over, async () => {
      proxy.reset();
      await proxy.heal();
    }),
  "5 % errors": (proxy, over) =>
    inSlices(over, async () => (Math.random() < BROKEN_SHARE ? proxy.reset() : await proxy.heal())),
  slow: async (proxy) => proxy.latency(SLOW_MS),
  "black hole": async (proxy) => {
    proxy.reset();
    proxy.hang();
  },
};

async function inSlices(over: AbortSignal, act: () => Promise<void>): Promise<void> {
  while (!over.aborted) {
    await act();
    await delay(SLICE_MS);
  }
}

type Outcome = "answered" | "unavailable" | "wrong" | "logged out" | "other";

interface Ended {
  outcome: Outcome;
  tookMs: number;
}

interface Setting {
  system: TestSystem;
  owner: TestUser;
  organizationId: string;
}

/** A question whose answer is known. */
type Question = (client: AuthClient, setting: Setting) => Promise<Outcome>;

const QUESTIONS: Record<string, Question> = {
  authenticate: async (client, { system, owner, organizationId }) => {
    const { userId } = await client.authenticate(system.memberToken(owner, organizationId));
    return userId === owner.userId ? "answered" : "wrong";
  },
  "authenticate a forgery": async (client, { system, owner, organizationId }) => {
    const forged = `${system.memberToken(owner, organizationId).slice(0, -8)}AAAAAAAA`;
    return client.authenticate(forged).then(
      () => "wrong",
      (error: { code: Code }) => (error.code === Code.Unauthenticated ? "answered" : outcomeOf(error)),
    );
  },
  authorize: async (client, { system, owner, organizationId }) => {
    const token = system.memberToken(owner, organizationId);
    const { userId } = await client.authorize(token, { permission: "organization:delete" });
    return userId === owner.userId ? "answered" : "wrong";
  },
  verifyToken: async (client, { system, owner, organizationId }) => {
    const found = await client.verifyToken(system.memberToken(owner, organizationId));
    const isRight = found.userId === owner.userId && found.organizationId === organizationId;
    return isRight && found.isActive && found.permissions.includes("organization:delete") ? "answered" : "wrong";
  },
  "decidePermission of a member": async (client, { owner: { userId }, organizationId }) => {
    const decided = await client.decidePermission({ userId, organizationId, permission: "organization:delete" });
    return decided === "denied" ? "wrong" : decided === "allowed" ? "answered" : "unavailable";
  },
  // Never asked about before, so that it cannot be in memory.
  "decidePermission of a stranger": async (client, { organizationId }) => {
    const userId = crypto.randomUUID();
    const decided = await client.decidePermission({ userId, organizationId, permission: "organization:delete" });
    return decided === "allowed" ? "wrong" : decided === "denied" ? "answered" : "unavailable";
  },
};

function outcomeOf({ code }: { code?: Code }): Outcome {
  if (code === Code.Unavailable) return "unavailable";
  return code === Code.Unauthenticated ? "logged out" : code === Code.PermissionDenied ? "wrong" : "other";
}

/** Asks everything in turn until it is over. */
async function ask(client: AuthClient, setting: Setting, over: AbortSignal, ended: Ended[]): Promise<void> {
  while (!over.aborted) {
    for (const question of Object.values(QUESTIONS)) {
      ended.push(await endOf(question(client, setting)));
    }
    await delay(PAUSE_MS);
  }
}

async function endOf(answer: Promise<Outcome>): Promise<Ended> {
  const startedAt = systemClock.monotonic();
  const outcome = await answer.catch(outcomeOf);
  return { outcome, tookMs: systemClock.monotonic() - startedAt };
}

/** A client that has taken every way. */
async function openClient(setting: Setting, { auth, access, REST: rest, Redis: redis }: Proxies): Promise<AuthClient> {
  const { system, owner } = setting;
  const client = createAuthClient({
    url: { auth: auth.url, access: access.url, organization: system.internalUrl },
    rest: { url: rest.url },
    redis: { url: redis.url.replace("http:", "redis:") },
    keys: { keys: ["auth", "access", "organization"].map((callee) => system.keyOf("backend", callee)) },
    issuer: decodeJwt(owner.accessToken).iss!,
  });
  await client.ready;
  await until("it decides", async () => (await QUESTIONS.verifyToken!(client, setting)) === "answered");
  return client;
}

/** One case: a new client, a fault, and what its answers were meanwhile. */
async function meet(setting: Setting, proxies: Proxies, target: Target, fault: string): Promise<Ended[]> {
  await using client = await openClient(setting, proxies);
  const over = AbortSignal.timeout(FAULT_MS);
  const ended: Ended[] = [];
  if (target === "REST") proxies.auth.cut();
  const breaking = FAULTS[fault]!(proxies[target], over);
  await Promise.all(Array.from({ length: CALLERS }, () => ask(client, setting, over, ended)));
  await breaking;
  for (const proxy of Object.values(proxies)) await proxy.heal();
  return ended;
}

/** Answers about tokens that were not seen before, for each of which auth is asked, over RPC and then, when that fails, over REST. */
async function fallBack(setting: Setting, proxies: Proxies): Promise<Record<"byRpc" | "byRest", Ended[]>> {
  await using client = await openClient(setting, proxies);
  const verify = async () => {
    const ended: Ended[] = [];
    for (let calls = 0; calls < FALLBACK_CALLS; calls++)
      ended.push(await endOf(QUESTIONS.verifyToken!(client, setting)));
    return ended;
  };
  const byRpc = await verify();
  proxies.auth.cut();
  await until("what is known is not fresh any more", () => client.staleness().auth! > FRESH_MS);
  const byRest = await verify();
  await proxies.auth.heal();
  return { byRpc, byRest };
}

const share = (ended: Ended[], outcome: Outcome) =>
  ended.filter((call) => call.outcome === outcome).length / ended.length;

const medianOf = (ended: Ended[]) =>
  quantile(
    ended.map(({ tookMs }) => tookMs),
    0.5,
  );

function rowOf(target: string, fault: string, ended: Ended[]): string {
  const times = ended.map(({ tookMs }) => tookMs);
  const percent = (outcome: Outcome) => `${(share(ended, outcome) * 100).toFixed(1)} %`.padStart(9);
  const ms = (part: number) => quantile(times, part).toFixed(1).padStart(8);
  const outcomes = `${percent("answered")} ${percent("unavailable")} ${percent("wrong")} ${percent("logged out")}`;
  return `${target.padEnd(8)}${fault.padEnd(18)}${String(ended.length).padStart(7)} ${outcomes} ${ms(0.5)} ${ms(0.99)} ${ms(1)}`;
}

async function main(): Promise<number> {
  const goals = new Goals("faults");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const clock = { ...systemClock, advance: refuseToAdvance };
  const system = opened.use(await startTestSystem({ clock }));
  const owner = await system.newUser();
  const setting = { system, owner, organizationId: await makeOrganization(system, owner) };
  const before = async (url: string) => {
    const { hostname, port } = new URL(url);
    return opened.use(await startFaultProxy({ host: hostname, port: Number(port) }));
  };
  const { internalUrl, server } = system;
  const redis = opened.use(await startRedis());
  const proxies = {
    auth: await before(internalUrl),
    access: await before(internalUrl),
    REST: await before(server.restUrl!),
    Redis: await before(redis.url),
  };
  const all: Ended[] = [];
  goals.info("way     fault               calls  answered  unavail.     wrong  log. out   p50 ms   p99 ms   max ms");
  for (const target of TARGETS) {
    for (const fault of Object.keys(FAULTS)) {
      const ended = await meet(setting, proxies, target, fault);
      goals.info(rowOf(target, fault, ended));
      all.push(...ended);
    }
  }
  const { byRpc, byRest } = await fallBack(setting, proxies);
  all.push(...byRpc, ...byRest);
  const afterFirst = byRest.slice(1 + byRest.findIndex(({ outcome }) => outcome !== "answered"));
  goals.atLeast("R-SDK-02 answered over REST in %", share(afterFirst, "answered") * 100, 99.9);
  goals.atMost("R-SDK-02 added p50 in ms", medianOf(byRest) - medianOf(byRpc), 5);
  const count = (outcome: Outcome) => all.filter((call) => call.outcome === outcome).length;
  goals.atLeast("calls", all.length, 1_000);
  goals.atMost("R-NET-05 wrong answers", count("wrong"), 0);
  goals.atMost("R-KEY-04 live sessions taken for ended ones", count("logged out"), 0);
  goals.atMost("R-SDK-03 other errors", count("other"), 0);
  goals.atMost("R-SDK-03 longest call in ms", Math.max(...all.map(({ tookMs }) => tookMs)), LONGEST_MS);
  return goals.missed === 0 ? 0 : 1;
}

function refuseToAdvance(): never {
  throw new Error("time passes by itself here");
}

process.exitCode = await main();
