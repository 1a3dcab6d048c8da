/**
 * The other ways in which sessions end, judged as logouts are: the person ends one or changes the password, an operator ends all or
 * disables the account. Then what must survive a kill -9 of auth: every end that was answered. And a signing key that is removed.
 */
import { setTimeout as delay } from "node:timers/promises";
import { hash } from "argon2";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import { type End, endAt, logoutAt, makeSessions, type Session, untilAnswered } from "./auth-sessions.ts";
import { clientOf } from "./refresh-client.ts";
import { nowMs } from "./revocation-clock.ts";
import { judgeEnds } from "./revocation-judge.ts";
import { follow, type Setting, settle, watch } from "./revocation-setting.ts";

const PASSWORD = "of a proof: wintry gallop 4711";
const NEW_PASSWORD = "of a proof: summery trot 4712";
/** Some of them hash passwords. */
const END_EVERY_MS = 40;
const WATCHED_BEFORE_MS = 100;
const KILL_EVERY_MS = 2_000;
const LIVE_SESSIONS = 10;

/** Each in its turn. */
export async function proveOtherEnds(setting: Setting, count: number): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const ends = await endsOf(setting, opened);
  const sessions = await makeSessions(setting.sql, setting.keys, count + LIVE_SESSIONS);
  const passwordHash = await hash(PASSWORD, { memoryCost: 19_456, timeCost: 2, parallelism: 1 });
  const users = sessions.map(({ userId }) => userId);
  await setting.sql`
    insert into credentials (account_id, password_hash) select id, ${passwordHash} from unnest(${users}::uuid[]) id`;
  await followFirst(setting);
  const startMs = nowMs() + 5 * WATCHED_BEFORE_MS;
  const dueMs = sessions.map((_, index) => startMs + index * END_EVERY_MS);
  await watch(setting, sessions, (index) => (dueMs[index] ?? startMs) - WATCHED_BEFORE_MS);
  const ending = sessions.slice(0, count);
  const kindOf = new Map(ending.map((session, index) => [session, ends[index % ends.length]!]));
  const revocations = await endAt(ending, dueMs, (session) => kindOf.get(session)!.end(session));
  const live = new Array(LIVE_SESSIONS).fill(undefined);
  const trial = await settle(setting, { name: "", revocations: [...revocations, ...live], reports: [] });
  for (const [kind, { name }] of ends.entries()) {
    const isOfKind = (index: number) => index < count && index % ends.length === kind;
    const pick = <T>(of: T[]) => of.filter((_, index) => isOfKind(index));
    const reports = trial.reports.map((report) => ({ ...report, runs: pick(report.runs) }));
    judgeEnds(setting.goals, { name, revocations: pick(trial.revocations), reports });
  }
}

async function endsOf(setting: Setting, opened: AsyncDisposableStack): Promise<{ name: string; end: End }[]> {
  const [{ publicUrl, internalUrl }] = setting.auths as [Setting["auths"][number]];
  const connection = opened.use(connectService({ baseUrl: internalUrl, key: setting.operator, clock: systemClock }));
  const internal = connection.client(AuthInternalService);
  const asPerson = async <T>(session: Session, call: (client: ReturnType<typeof clientOf>) => Promise<T>) => {
    await using mine = new AsyncDisposableStack();
    return await call(clientOf(publicUrl, session.accessToken, mine));
  };
  const passwords = { currentPassword: PASSWORD, newPassword: NEW_PASSWORD };
  const once = (call: (session: Session) => Promise<unknown>): End => {
    return async (session) => {
      const sentMs = nowMs();
      await call(session);
      return { sentMs, answeredMs: nowMs() };
    };
  };
  return [
    { name: "EndSession", end: once((session) => asPerson(session, (client) => client.endSession(session))) },
    { name: "ChangePassword", end: once((session) => asPerson(session, (client) => client.changePassword(passwords))) },
    { name: "EndUserSessions", end: untilAnswered(({ userId }) => internal.endUserSessions({ userId })) },
    { name: "DisableAccount", end: untilAnswered(({ userId }) => internal.disableAccount({ userId })) },
  ];
}

/** Logouts, while both replicas of auth are killed in turn and started again at their places. Afterwards all verifiers are asked. */
export async function proveKills(setting: Setting, opened: AsyncDisposableStack, count: number): Promise<void> {
  const { goals, auths, sql, keys } = setting;
  const sessions = await makeSessions(sql, keys, count);
  await followFirst(setting);
  await watch(setting, [], () => 0);
  const isOver = Promise.all([0, 1].map((index) => endAllAt(setting, index, opened, sessions))).then(() => true);
  let kills = 0;
  while (!(await Promise.race([isOver, delay(KILL_EVERY_MS, false)]))) {
    const victim = auths[kills++ % auths.length]!;
    await victim.worker[Symbol.asyncDispose]();
    Object.assign(victim, await setting.startReplica(victim));
  }
  await watch(setting, sessions, () => 0);
  const revocations = sessions.map(() => ({ sentMs: 0, answeredMs: 0 }));
  const { reports } = await settle(setting, { name: "kills", revocations, reports: [] });
  const lost = reports.flatMap(({ runs }) => runs.filter((run) => run.at(-1)?.answer !== "refused")).length;
  const cameBack = reports.flatMap(({ runs }) => runs.filter((run) => run.some(({ answer }) => answer === "accepted")));
  goals.info(`R-CON-02 auth killed and started again ${kills} times during ${count} logouts`);
  goals.atLeast("R-CON-02 auth killed: kills", kills, 2);
  goals.atMost(`R-CON-02 auth killed: of ${count} logouts, lost at some verifier`, lost, 0);
  goals.atMost(`R-CON-02 auth killed: of ${count} logouts, accepted once more afterwards`, cameBack.length, 0);
}

/** Half of them, at one replica. */
async function endAllAt({ auths }: Setting, index: number, opened: AsyncDisposableStack, sessions: Session[]) {
  const logout = logoutAt(auths[index]!.publicUrl, opened);
  const half = sessions.filter((_, place) => place % 2 === index);
  await endAt(half, new Array(half.length).fill(0), logout);
}

/** All tokens of a key, in one moment. */
export async function proveKeyRemoval(setting: Setting): Promise<void> {
  const { goals, auths, sql, keys, operator } = setting;
  const sessions = await makeSessions(sql, keys, LIVE_SESSIONS);
  await followFirst(setting);
  await watch(setting, sessions, () => 0);
  await settle(setting, { name: "", revocations: sessions.map(() => undefined), reports: [] });
  using connection = connectService({ baseUrl: auths[1]!.internalUrl, key: operator, clock: systemClock });
  const sentMs = nowMs();
  await connection.client(AuthInternalService).removeSigningKey({ keyId: keys.keys[0]!.kid });
  const revocations = sessions.map(() => ({ sentMs, answeredMs: nowMs() }));
  const trial = await settle(setting, { name: "R-KEY-02 RemoveSigningKey", revocations, reports: [] });
  judgeEnds(goals, trial);
}

async function followFirst(setting: Setting): Promise<void> {
  await follow(setting, new Array(setting.verifiers.length).fill(setting.auths[0]!.internalUrl));
}
