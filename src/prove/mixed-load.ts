/**
 * Worker: people and a backend who use every service at a steady rate, whatever is answered, and the log of it: each call with
 * its outcome, and of each write what was acknowledged and what was only tried. What one person changes is changed by
 * one call at a time, so that it is known which value must be stored in the end.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { ConnectError } from "@connectrpc/connect";
import { Code, reasonOf } from "../errors.ts";
import { type LoadClients, makePeople, openClients, type Person } from "./load-people.ts";
import { nowMs } from "./revocation-clock.ts";
import type { ServiceProcesses } from "./service-processes.ts";
import { answerCommands } from "./workers.ts";

/** Of 200 calls, so many; logins are few, because each costs as much as fifty other calls. */
const SHARES = {
  "auth VerifyToken": 40,
  "access CheckPermission": 30,
  "user GetUser": 29,
  "notification CountUnread": 20,
  "user UpdateUser": 20,
  "organization RenameBranch": 12,
  "access AssignRole": 12,
  "auth RefreshToken": 16,
  "notification CreateNotification": 20,
  "auth Login": 1,
};
export type CallName = keyof typeof SHARES;
export const CALL_NAMES = Object.keys(SHARES) as CallName[];
const TURNS = CALL_NAMES.flatMap((name) => Array<CallName>(SHARES[name]).fill(name));

const TICK_MS = 10;
const CALL_MS = 5_000;
const TRY_AGAIN_MS = 100;
const SETTLED_MS = 30_000;

/** One call. `outcome` is "ok", or code and reason. */
export interface LoggedCall {
  name: CallName;
  sentMs: number;
  endedMs: number;
  outcome: string;
}

/** A value that one person changes, by numbers from 1 on. */
export interface Lane {
  /** The last number that was acknowledged, and how many were. */
  last: number;
  acknowledged: number;
  /** The last number that was tried: those between may be stored or not. */
  tried: number;
  isBusy: boolean;
}

/** What must be in the databases. */
export interface LoadReport {
  calls: LoggedCall[];
  /** With the values of their lanes: a first name, a branch's name, a role held at odd numbers only. */
  people: { userId: string; branchId: string; names: Lane; branch: Lane; role: Lane; refreshes: Lane }[];
  /** Idempotency keys, each with the id that was answered; of those that failed, once they were tried again. */
  notifications: [key: string, notificationId: string][];
  /** Of sessions, whose newest acknowledged token was refused in the end. */
  refusedRefreshes: number;
}

interface Job {
  name: CallName;
  run(): Promise<unknown>;
}

let clients: LoadClients;
let people: Loaded[];
let ended: Promise<void> | undefined;
const stopping = new AbortController();
const calls: LoggedCall[] = [];
const created = new Map<string, string>();
const failedKeys: { key: string; userId: string }[] = [];

type Loaded = Person & Record<"names" | "branch" | "role" | "refreshes", Lane>;

answerCommands({
  /** Registers people, each with an organization, a branch and a second session. */
  async prepare(task: { processes: Pick<ServiceProcesses, "urls" | "keys">; people: number }): Promise<void> {
    clients = openClients(task.processes);
    const lane = (): Lane => ({ last: 0, acknowledged: 0, tried: 0, isBusy: false });
    people = (await makePeople(clients, task.people)).map((person) => {
      return { ...person, names: lane(), branch: lane(), role: lane(), refreshes: lane() };
    });
  },
  /** Begins to call so often a second. */
  async begin({ callsPerSecond }: { callsPerSecond: number }): Promise<void> {
    ended = callOn(callsPerSecond);
  },
  /** Ends it, makes again what must be known for certain, and tells everything. */
  async end(): Promise<LoadReport> {
    stopping.abort();
    await ended;
    const patience = AbortSignal.timeout(SETTLED_MS);
    for (const { key, userId } of failedKeys) await untilDone(() => notify(key, userId), patience);
    const refused = await Promise.all(people.map((person) => isRefused(person, patience)));
    return {
      calls,
      people: people.map(({ userId, branchId, names, branch, role, refreshes }) => {
        return { userId, branchId, names, branch, role, refreshes };
      }),
      notifications: [...created],
      refusedRefreshes: refused.filter(Boolean).length,
    };
  },
});

async function callOn(callsPerSecond: number): Promise<void> {
  const startedMs = nowMs();
  const open = new Set<Promise<void>>();
  for (let sent = 0; !stopping.signal.aborted; ) {
    const due = ((nowMs() - startedMs) * callsPerSecond) / 1_000;
    for (; sent < due; sent++) {
      const call = make(nextJob());
      open.add(call);
      void call.finally(() => open.delete(call));
    }
    await delay(TICK_MS);
  }
  await Promise.all(open);
}

async function make({ name, run }: Job): Promise<void> {
  const sentMs = nowMs();
  const outcome = await run().then(
    () => "ok",
    (error: unknown) => {
      const refusal = ConnectError.from(error);
      return `${Code[refusal.code]} ${reasonOf(refusal) ?? refusal.rawMessage}`;
    },
  );
  calls.push({ name, sentMs, endedMs: nowMs(), outcome });
}

/** By chance, in the shares above; another one where nobody is free to make it. */
function nextJob(): Job {
  for (;;) {
    const name = TURNS[Math.floor(Math.random() * TURNS.length)]!;
    const run = jobOf(name);
    if (run) return { name, run };
  }
}

function jobOf(name: CallName): (() => Promise<unknown>) | undefined {
  const person = people[Math.floor(Math.random() * people.length)]!;
  const { userId, accessToken, email, password, branchId } = person;
  const options = { timeoutMs: CALL_MS };
  const of = clients.of(accessToken);
  switch (name) {
    case "auth VerifyToken":
      return () => clients.auth.verifyToken({ accessToken }, options);
    case "access CheckPermission":
      return () => clients.access.checkPermission({ userId, permission: clients.permission }, options);
    case "user GetUser":
      return () => clients.users.getUser({ userId }, options);
    case "notification CountUnread":
      return () => of.inbox.countUnread({}, options);
    case "auth Login":
      return () => clients.login.login({ email, password }, options);
    case "notification CreateNotification":
      return () => notify(crypto.randomUUID(), userId);
    case "auth RefreshToken":
      return inLane(person.refreshes, () => refresh(person));
    case "user UpdateUser":
      return inLane(person.names, (number) =>
        of.users.updateUser({ firstName: String(number), updateMask: { paths: ["first_name"] } }, options),
      );
    case "organization RenameBranch":
      return inLane(person.branch, (number) =>
        of.organizations.renameBranch({ branchId, name: String(number) }, options),
      );
    case "access AssignRole":
      return inLane(person.role, (number) => {
        const call = { userId, role: clients.role };
        return number % 2 === 1 ? clients.access.assignRole(call, options) : clients.access.unassignRole(call, options);
      });
  }
}

/** Numbers the values of a lane; undefined while a call is under way there. */
function inLane(lane: Lane, write: (number: number) => Promise<unknown>): (() => Promise<unknown>) | undefined {
  if (lane.isBusy) return undefined;
  return async () => {
    lane.isBusy = true;
    const number = ++lane.tried;
    try {
      await write(number);
      lane.last = number;
      lane.acknowledged++;
    } finally {
      lane.isBusy = false;
    }
  };
}

/** What failed is made again with its key, as a device does it that has not seen the answer. */
async function refresh(person: Person): Promise<void> {
  const { refreshToken, idempotencyKey } = person.chain;
  const answer = await clients.login.refreshToken({ refreshToken, idempotencyKey }, { timeoutMs: CALL_MS });
  person.chain = { refreshToken: answer.refreshToken, idempotencyKey: randomBytes(16).toString("hex") };
}

async function notify(key: string, userId: string): Promise<void> {
  const call = { text: "Your table is ready", userIds: [userId], idempotencyKey: key };
  try {
    const { notificationId } = await clients.notifications.createNotification(call, { timeoutMs: CALL_MS });
    created.set(key, notificationId);
  } catch (error) {
    failedKeys.push({ key, userId });
    throw error;
  }
}

async function isRefused(person: Person, patience: AbortSignal): Promise<boolean> {
  return untilDone(() => refresh(person), patience).then(
    () => false,
    () => true,
  );
}

/** Until it succeeds or is refused for good. */
async function untilDone(call: () => Promise<void>, patience: AbortSignal): Promise<void> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const { code } = ConnectError.from(error);
      if (patience.aborted || (code !== Code.Unavailable && code !== Code.DeadlineExceeded)) throw error;
      await delay(TRY_AGAIN_MS);
    }
  }
}
