/**
 * What is asked of a system that was restored: whether tokens of before are answered, whether what was acknowledged is there,
 * and whether its databases agree with each other.
 */
import { createClient } from "@connectrpc/connect";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { systemClock as clock } from "../clock.ts";
import type { ServiceDatabases } from "../testing/invariants.ts";
import { userTransport } from "../testing/people.ts";
import { until } from "../testing/until.ts";
import type { Goals } from "./figures.ts";
import type { Load } from "./restore-load.ts";
import type { RestoreSystem } from "./restore-system.ts";

const CATCH_UP_MS = 60_000;

type Tokens = { accessToken: string; refreshToken: string };

/**
 * Starts the system, and tries these access tokens at whom goes on and at whom begins, until all are there and every token was
 * tried then. Resolves to the seconds from `stoppedAt` to the sending of the last call that was answered; 0 if none was.
 */
export async function startTrying(system: RestoreSystem, sessions: Tokens[], stoppedAt: number): Promise<number> {
  let isUp = false;
  const starting = system.start().then(() => {
    isUp = true;
  });
  let lastMs = 0;
  for (let isLast = false; !isLast; ) {
    isLast = isUp;
    for (const { accessToken } of sessions) {
      const sentMs = clock.monotonic() - stoppedAt;
      if ((await countAnswered(callsWith(system, accessToken, isLast))) > 0) lastMs = sentMs;
      if (isUp && !isLast) break;
    }
  }
  await starting;
  return lastMs / 1_000;
}

/** How many calls with their access tokens are not answered. */
export async function countRefused(system: RestoreSystem, sessions: Tokens[]): Promise<number> {
  const calls = sessions.flatMap(({ accessToken }) => callsWith(system, accessToken, true));
  return calls.length - (await countAnswered(calls));
}

/** How many of their refresh tokens are good. */
export function countRefreshed(system: RestoreSystem, sessions: Tokens[]): Promise<number> {
  const auth = createClient(AuthService, userTransport(system.publicUrl("auth")));
  return countAnswered(
    sessions.map(
      ({ refreshToken }) =>
        () =>
          auth.refreshToken({ refreshToken }),
    ),
  );
}

/** Of greeter, and of user if it is up. */
function callsWith(system: RestoreSystem, accessToken: string, isUp: boolean): (() => Promise<unknown>)[] {
  const greeter = createClient(GreeterService, userTransport(system.publicUrl("greeter"), accessToken));
  const users = createClient(UserService, userTransport(system.publicUrl("others"), accessToken));
  return [() => greeter.sayHello({ name: "Ann" }), ...(isUp ? [() => users.getMe({})] : [])];
}

/** One after the other. */
async function countAnswered(calls: (() => Promise<unknown>)[]): Promise<number> {
  let answered = 0;
  for (const call of calls) {
    await call().then(
      () => answered++,
      () => {},
    );
  }
  return answered;
}

interface Judgement {
  goals: Goals;
  system: RestoreSystem;
  databases: ServiceDatabases;
  /** The lives of the feeds before. */
  epochs: ReadonlyMap<string, string>;
}

/** What must hold after any restore. */
export async function judgeSystem(which: string, { goals, system, databases, epochs }: Judgement): Promise<void> {
  const now = await databases.epochs();
  const same = [...epochs].filter(([service, epoch]) => now.get(service) === epoch).length;
  goals.atMost(`${which}: of ${epochs.size} feeds, in the same life as before`, same, 0);
  await until("followers have caught up", () => databases.areCaughtUp(), CATCH_UP_MS);
  const toPush = "select 1 from deliveries";
  const isPushed = async () => (await databases.rows("notification", toPush)).length === 0;
  await until("what was to be pushed is", isPushed, CATCH_UP_MS);
  const faults = await databases.findFaults();
  const broken = [...faults].filter(([, count]) => count > 0);
  goals.atMost(
    `${which}: of ${faults.size} rules in and between databases, broken`,
    broken.length,
    0,
    broken.join("; "),
  );
  const faulty = await system.verifyAudit().then(
    () => "",
    (error: Error) => error.message,
  );
  goals.atMost(`${which}: faults of the audit log's chain`, faulty === "" ? 0 : 1, 0, faulty);
}

/** How much of what was acknowledged is not there, by what it is. */
export async function countLost(databases: ServiceDatabases, load: Load): Promise<[what: string, lost: number][]> {
  const lost = async (service: string, ids: string[], query: string) => {
    return ids.length - (await databases.rows(service, query, [ids])).length;
  };
  const users = (of: { userId: string }[]) => of.map(({ userId }) => userId);
  const deleted = new Set(users(load.deleted));
  // Sessions go with the account.
  const ended = load.ended.filter(({ userId }) => !deleted.has(userId));
  const idsOf = (sessions: { sessionId: string }[]) => sessions.map(({ sessionId }) => sessionId);
  const notifications = load.notifications.map(({ notificationId }) => notificationId);
  return [
    [
      "sessions",
      await lost("auth", idsOf(load.live), "select 1 from sessions where id = any ($1) and ended_at is null"),
    ],
    [
      "logouts",
      await lost("auth", idsOf(ended), "select 1 from sessions where id = any ($1) and ended_at is not null"),
    ],
    [
      "deletions",
      await lost("auth", [...deleted], "select 1 from accounts where id = any ($1) and status = 'deleted'"),
    ],
    ["roles", await lost("access", users(load.assigned), "select 1 from assignments where user_id = any ($1)")],
    ["notifications", await lost("notification", notifications, "select 1 from notifications where id = any ($1)")],
  ];
}

/** How many pushes were not the first one of their notification to their device. */
export async function pushedTwice(system: RestoreSystem): Promise<number> {
  const pushes = await system.pushes();
  const different = new Set(pushes.map(({ message }) => JSON.stringify(message)));
  return pushes.length - different.size;
}
