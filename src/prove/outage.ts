/**
 * `make prove/outage`: auth is killed and stays away for a minute (R-KEY-04), while two clients of the SDK are asked 300 times a second
 * each who somebody is and what they may do: one that goes on with what it knows (`allowStale`), and one that does not. The first must
 * answer nearly always, the second must say UNAVAILABLE from six seconds on; neither may grant what is not held, nor say that a living
 * session is none. Meanwhile access goes on and takes rights away, of which both must know. AWAY_SECONDS=<n>;
 * QUICK=1: 20.
 */
import { setTimeout as delay } from "node:timers/promises";
import { ConnectError } from "@connectrpc/connect";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { type AccessSetting, grow, openAccessSetting, type Person } from "../bench/access-setting.ts";
import { machineLine } from "../bench/figures.ts";
import { type AuthClient, createAuthClient } from "../client/index.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock as clock } from "../clock.ts";
import { Code, reasonOf } from "../errors.ts";
import { freePort } from "../testing/command.ts";
import { until } from "../testing/until.ts";
import { signAccessToken } from "../token/access-token.ts";
import { createSigner } from "../token/signing-keys.ts";
import { ISSUER, logoutAt, makeSessions, type Session } from "./auth-sessions.ts";
import { Goals } from "./figures.ts";

const { QUICK, AWAY_SECONDS: AWAY_GIVEN } = process.env;
const AWAY_SECONDS = Number(AWAY_GIVEN ?? (QUICK ? 20 : 60));
const CALLS_PER_SECOND = 300;
const PEOPLE = 200;
/** Of them, logged out before auth is killed. */
const GONE = 20;
/** Of them, with a role that is taken away while auth is away. */
const DEMOTED = 20;
const ROLE = "outage-readers";
const PERMISSION = "outage:read";
const BEFORE_MS = 8_000;
const AFTER_MS = 5_000;
/** So long a change may take to be known. */
const BOUND_MS = 5_000;
const CLOSED_AFTER_MS = 6_000;

/** What has to be answered about somebody. */
interface Asked {
  token: string;
  person: Person;
  /** Whether the session lives. */
  isLive: boolean;
  /** Whether the permission is held; undefined while a change of it is under way. */
  isHeld: boolean | undefined;
}

type Outcome = "allowed" | "denied" | "unauthenticated" | "unavailable" | "fault";

interface Answer {
  sentMs: number;
  outcome: Outcome;
  /** Granted although it is not held or the session has ended; or refused although it is held. */
  isWrong: boolean;
  /** About a session that lives. */
  isLive: boolean;
}

async function main(): Promise<number> {
  const goals = new Goals("outage");
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const setting = await openAccessSetting(opened);
  const system = await startSystem(setting, opened);
  const asked = await makePeople(setting, system, opened);
  const openClient = (allowStale: boolean) => opened.use(createClient(setting, system, allowStale));
  const clients = { patient: openClient(true), strict: openClient(false) };
  await Promise.all(Object.values(clients).map(({ ready }) => ready));
  const holder = asked.findLast(({ isHeld }) => isHeld)!;
  const end = new AbortController();
  const answers = Object.values(clients).map((client) => ask(client, asked, end.signal));
  await delay(BEFORE_MS);
  const killedMs = clock.monotonic();
  await system.killAuth();
  await demote(asked, setting, system, opened);
  await delay(Math.max(0, killedMs + AWAY_SECONDS * 1_000 - clock.monotonic()));
  const startedMs = clock.monotonic();
  await system.startAuth();
  await until("the strict client answers again", async () => (await outcomeOf(clients.strict, holder)) === "allowed");
  goals.info(
    `auth was away for ${Math.round(startedMs - killedMs)} ms; both went on ${Math.round(clock.monotonic() - startedMs)} ms later`,
  );
  await delay(AFTER_MS);
  end.abort();
  const [patient, strict] = (await Promise.all(answers)) as [Answer[], Answer[]];
  judge(goals, patient, strict, { killedMs, startedMs });
  return goals.missed === 0 ? 0 : 1;
}

interface System {
  authUrl(): string;
  publicUrl(): string;
  accessUrl: string;
  killAuth(): Promise<void>;
  startAuth(): Promise<void>;
}

/** auth in a process of its own, access and organization in another. */
async function startSystem(setting: AccessSetting, opened: AsyncDisposableStack): Promise<System> {
  const port = { auth: await freePort(), access: await freePort() };
  const urls = { auth: `http://127.0.0.1:${port.auth}`, access: `http://127.0.0.1:${port.access}` };
  const startAuth = () =>
    setting.start(["auth"], {
      CONCIERGE_INTERNAL_PORT: String(port.auth),
      CONCIERGE_AUTH_ACCESS_URL: urls.access,
      CONCIERGE_AUTH_ORGANIZATION_URL: urls.access,
      CONCIERGE_AUTH_USER_URL: urls.access,
      CONCIERGE_AUTH_REST_PORT: "0",
    });
  const others = setting.start(["access", "organization"], {
    CONCIERGE_INTERNAL_PORT: String(port.access),
    CONCIERGE_ACCESS_AUTH_URL: urls.auth,
    CONCIERGE_ORGANIZATION_AUTH_URL: urls.auth,
  });
  let auth = await startAuth();
  opened.defer(() => auth[Symbol.asyncDispose]());
  opened.use(await others);
  return {
    authUrl: () => urls.auth,
    publicUrl: () => auth.publicUrl,
    accessUrl: urls.access,
    killAuth: async () => auth[Symbol.asyncDispose](),
    async startAuth() {
      auth = await startAuth();
    },
  };
}

function createClient(setting: AccessSetting, system: System, allowStale: boolean): AuthClient {
  return createAuthClient({
    url: { auth: system.authUrl(), access: system.accessUrl, organization: system.accessUrl },
    keys: { keys: ["auth", "access", "organization"].map((callee) => setting.keyOf(callee)) },
    issuer: ISSUER,
    allowStale,
  });
}

/** Half of them hold the permission by a role of the product; some have logged out. */
async function makePeople(setting: AccessSetting, system: System, opened: AsyncDisposableStack): Promise<Asked[]> {
  const access = accessOf(setting, system, opened);
  await access.createPermission({ name: PERMISSION });
  await access.createRole({ name: ROLE, permissions: [PERMISSION] });
  const all = await grow(setting, 20);
  const plain = await plainMembers(setting, all);
  const people = plain.slice(0, PEOPLE);
  const sessions = await makeSessions(setting.sql.auth!, setting.signingKeys, PEOPLE);
  const asked: Asked[] = [];
  for (const [index, person] of people.entries()) {
    const session = { ...sessions[index]!, userId: person.userId };
    await adopt(setting, session);
    const isHeld = index % 2 === 0;
    if (isHeld) await access.assignRole({ ...person, role: ROLE });
    asked.push({ token: tokenOf(setting, session, person), person, isLive: index >= GONE, isHeld });
  }
  const logout = logoutAt(system.publicUrl(), opened);
  for (const session of sessions.slice(0, GONE)) await logout(session);
  return asked;
}

/** Those who hold nothing by what they are to their organization. */
async function plainMembers({ sql }: AccessSetting, people: Person[]): Promise<Person[]> {
  const ids = people.map(({ userId }) => userId);
  const rows = await sql.organization!<{ id: string }[]>`
    select user_id as id from memberships where role = 'member' and user_id = any(${ids}::uuid[])`;
  const plain = new Set(rows.map(({ id }) => id));
  return people.filter(({ userId }) => plain.has(userId));
}

/** Gives a session that was made for somebody else to a member. */
async function adopt({ sql }: AccessSetting, { sessionId, userId }: Session): Promise<void> {
  await sql.auth!`update sessions set account_id = ${userId} where id = ${sessionId}`;
}

function tokenOf(setting: AccessSetting, { userId, sessionId }: Session, { organizationId }: Person): string {
  const now = Math.floor(clock.now() / 1_000);
  const times = { authenticatedAt: now, expiresAt: now + 300 };
  const claims = { userId, sessionId, organizationId, generation: 0, ...times };
  return signAccessToken(createSigner(setting.signingKeys), { issuer: ISSUER, clock }, claims);
}

function accessOf(setting: AccessSetting, { accessUrl: baseUrl }: System, opened: AsyncDisposableStack) {
  return opened.use(connectService({ baseUrl, key: setting.keyOf("access"), clock })).client(AccessInternalService);
}

/** Takes the role away from some, one after the other, over half of the outage. */
async function demote(
  asked: Asked[],
  setting: AccessSetting,
  system: System,
  opened: AsyncDisposableStack,
): Promise<void> {
  const access = accessOf(setting, system, opened);
  const holders = asked.filter(({ isLive, isHeld }) => isLive && isHeld).slice(0, DEMOTED);
  for (const one of holders) {
    one.isHeld = undefined;
    await access.unassignRole({ ...one.person, role: ROLE });
    setTimeout(() => {
      one.isHeld = false;
    }, BOUND_MS).unref();
    await delay((AWAY_SECONDS * 500) / DEMOTED);
  }
}

/** Asks at an even rate, whatever becomes of it. */
async function ask(client: AuthClient, asked: Asked[], end: AbortSignal): Promise<Answer[]> {
  const answers: Promise<Answer>[] = [];
  const startedAt = clock.monotonic();
  for (let call = 0; !end.aborted; call++) {
    const dueMs = startedAt + (call * 1_000) / CALLS_PER_SECOND - clock.monotonic();
    if (dueMs > 0) await delay(dueMs);
    answers.push(askOnce(client, asked[call % asked.length]!));
  }
  return Promise.all(answers);
}

async function askOnce(client: AuthClient, one: Asked): Promise<Answer> {
  const sentMs = clock.monotonic();
  const before = one.isHeld;
  const outcome = await outcomeOf(client, one);
  // What changed while it was asked may have been answered either way.
  const expected = before === one.isHeld ? before : undefined;
  const isGrantWrong = outcome === "allowed" && (!one.isLive || expected === false);
  const isRefusalWrong = outcome === "denied" && one.isLive && expected === true;
  return { sentMs, outcome, isWrong: isGrantWrong || isRefusalWrong, isLive: one.isLive };
}

async function outcomeOf(client: AuthClient, { token }: Asked): Promise<Outcome> {
  try {
    await client.authorize(token, { permission: PERMISSION, whenStale: "until_expiry" });
    return "allowed";
  } catch (error) {
    if (reasonOf(error) === "PERMISSION_MISSING") return "denied";
    const { code } = ConnectError.from(error);
    if (code === Code.Unauthenticated) return "unauthenticated";
    return code === Code.Unavailable ? "unavailable" : "fault";
  }
}

function judge(
  goals: Goals,
  patient: Answer[],
  strict: Answer[],
  { killedMs, startedMs }: { killedMs: number; startedMs: number },
): void {
  const away = (answers: Answer[], fromMs: number) =>
    answers.filter(({ sentMs, isLive }) => isLive && sentMs >= fromMs && sentMs < startedMs);
  const goingOn = away(patient, killedMs);
  const answered = goingOn.filter(({ outcome }) => outcome === "allowed" || outcome === "denied").length;
  goals.atLeast(
    "R-KEY-04 with allow_stale, answered while auth is away, percent",
    (answered * 100) / goingOn.length,
    99.9,
    countsOf(goingOn),
  );
  const closed = away(strict, killedMs + CLOSED_AFTER_MS);
  const others = closed.filter(({ outcome }) => outcome !== "unavailable").length;
  goals.atMost("R-KEY-04 by default, not UNAVAILABLE from 6 s on", others, 0, countsOf(closed));
  goals.info(
    `by default in the first 6 s: ${countsOf(away(strict, killedMs).filter((answer) => !closed.includes(answer)))}`,
  );
  for (const [name, answers] of Object.entries({ "with allow_stale": patient, "by default": strict })) {
    const wrong = answers.filter(({ isWrong }) => isWrong).length;
    const lost = answers.filter(({ outcome, isLive }) => isLive && outcome === "unauthenticated").length;
    const faults = answers.filter(({ outcome }) => outcome === "fault").length;
    goals.atMost(`R-KEY-04 ${name}, wrong answers of ${answers.length}`, wrong, 0);
    goals.atMost(`R-KEY-04 ${name}, UNAUTHENTICATED for sessions that live`, lost, 0);
    goals.atMost(`R-KEY-04 ${name}, other errors`, faults, 0);
  }
}

function countsOf(answers: Answer[]): string {
  const counts = new Map<Outcome, number>();
  for (const { outcome } of answers) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return [...counts].map(([outcome, count]) => `${outcome} ${count}`).join(", ");
}

process.exitCode = await main();
