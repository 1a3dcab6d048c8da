/** What the parts of the proof of revocation share: two replicas of auth, four verifiers that follow them, and how they are asked. */
import { setTimeout as delay } from "node:timers/promises";
import type { ServiceKey } from "../config.ts";
import { createServiceKey, createSigningKeys } from "../token/key-making.ts";
import { type End, ISSUER, logoutAt, type Session } from "./auth-sessions.ts";
import { type AuthReplica, type AuthSetting, openAuthSetting } from "./auth-setting.ts";
import type { Goals } from "./figures.ts";
import { waitedMs } from "./revocation-faults.ts";
import { isSettled, type Trial } from "./revocation-judge.ts";
import type { Report } from "./revocation-verifier.ts";
import { startWorker, type Worker } from "./workers.ts";

const CALLERS = ["access", "greeter", "notification", "user"];
const SETTLED_MS = 15_000;
const LOOK_MS = 200;

/** Everything that runs. */
export interface Setting extends Omit<AuthSetting, "replicas"> {
  goals: Goals;
  /** For calls as an operator. */
  operator: ServiceKey;
  /** Two replicas. */
  auths: (AuthReplica & { logout: End })[];
  verifiers: { worker: Worker; key: ServiceKey; authUrl: string | undefined }[];
}

/** Opens it; `opened` closes it. auth has a second key, so that the first one can be removed. */
export async function openSetting(goals: Goals, opened: AsyncDisposableStack): Promise<Setting> {
  const pairs = CALLERS.map((caller) => createServiceKey(caller, "auth", "service"));
  const operator = createServiceKey("operator", "auth", "operator");
  const { replicas, ...setting } = await openAuthSetting([...pairs, operator], opened, {
    moreKeys: await createSigningKeys("ES256"),
  });
  const auths = replicas.map((replica) => ({ ...replica, logout: logoutAt(replica.publicUrl, opened) }));
  const verifiers = pairs.map((key) => {
    return { worker: opened.use(startWorker("revocation-verifier")), key, authUrl: undefined };
  });
  return { ...setting, goals, operator, auths, verifiers };
}

/** Makes each verifier follow the auth at its URL, unless it does already. */
export async function follow({ verifiers }: Setting, authUrls: string[]): Promise<void> {
  const changed = verifiers.map(async (verifier, index) => {
    const authUrl = authUrls[index]!;
    if (verifier.authUrl === authUrl) return;
    await verifier.worker.call("follow", { key: verifier.key, authUrl, issuer: ISSUER });
    verifier.authUrl = authUrl;
  });
  await Promise.all(changed);
}

export async function watch(
  { verifiers }: Setting,
  sessions: Session[],
  fromMs: (index: number) => number,
): Promise<void> {
  const watched = sessions.map(({ accessToken }, index) => ({ accessToken, fromMs: fromMs(index) }));
  await Promise.all(verifiers.map(({ worker }) => worker.call("watch", watched)));
}

/** Waits until every verifier answers as it must in the end, but not for ever: what is missing shows in the figures. */
export async function settle(setting: Setting, trial: Trial): Promise<Trial> {
  const patience = AbortSignal.timeout(SETTLED_MS);
  for (;;) {
    const settled = { ...trial, reports: await reportsOf(setting) };
    if (patience.aborted || isSettled(settled)) return settled;
    await delay(LOOK_MS);
  }
}

export function reportsOf({ verifiers }: Setting): Promise<Report[]> {
  return Promise.all(verifiers.map(({ worker }) => worker.call<Report>("report")));
}

export function waitedByAll({ auths, verifiers }: Setting): number {
  const workers = [...auths, ...verifiers].map(({ worker }) => worker);
  return workers.reduce((sum, { pid }) => sum + waitedMs(pid), 0);
}

export function verificationsOf(reports: Report[]): number {
  return reports.reduce((sum, { verifications }) => sum + verifications, 0);
}

export async function questionsOf({ auths }: Setting): Promise<number> {
  const counts = await Promise.all(auths.map(({ worker }) => worker.call<number>("questions")));
  return counts.reduce((sum, count) => sum + count, 0);
}
