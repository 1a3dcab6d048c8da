/**
 * Worker: what every service but auth does before a call of a person, and nothing else: it verifies the access token and asks
 * whether the session lives, again and again, and notes when each answer began and ended. All times are CLOCK_MONOTONIC, which
 * is one clock for all processes of a machine.
 */
import { ConnectError } from "@connectrpc/connect";
import { quantile } from "../bench/figures.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { reasonOf } from "../errors.ts";
import { createLogger } from "../log.ts";
import { services } from "../services.ts";
import { type AccessTokenVerifier, createAccessTokenVerifier } from "../token/access-token.ts";
import type { SessionCheck } from "../token/session-check.ts";
import { usersOfAuth } from "../users.ts";
import { nowMs } from "./revocation-clock.ts";
import { answerCommands } from "./workers.ts";

/** As a caller sees it: "refused" is UNAUTHENTICATED, "stale" is UNAVAILABLE / AUTH_STALE; anything else is a fault of ours. */
export type Answer = "accepted" | "refused" | "stale" | "failed";

/** The same answer to one session, from the first time in a row to the last. */
export interface Run {
  answer: Answer;
  fromMs: number;
  toMs: number;
}

/** A session to be asked about, from when on. */
export interface Watched {
  accessToken: string;
  fromMs: number;
}

export interface Report {
  /** By the order of the sessions. */
  runs: Run[][];
  verifications: number;
  /** From one turn to the next, p99: nothing is seen more exactly than this. */
  turnMs: number;
  /** What "failed" was, once each. */
  failures: string[];
}

interface Observed extends Watched {
  runs: Run[];
  nextMs: number;
}

const POLL_MS = 2;
/** Of a processor, at most: what is measured shares it with what measures. */
const POLL_SHARE = 0.1;
const LONGEST_PAUSE_MS = 50;
/** An ended session is still asked about for so long: it must not come back. */
const ENDED_POLL_MS = 500;

let open: AsyncDisposableStack | undefined;
let verify: AccessTokenVerifier;
let check: SessionCheck;
let observed: Observed[] = [];
let verifications = 0;
let turnsMs: number[] = [];
let lastTurnMs = nowMs();
const failures = new Set<string>();

/** Follows auth as a service does; resolves when the service would be ready. */
async function follow({ key, authUrl, issuer }: { key: ServiceKey; authUrl: string; issuer: string }): Promise<void> {
  observed = [];
  await open?.disposeAsync();
  open = new AsyncDisposableStack();
  const clock = systemClock;
  const log = createLogger({ level: "info", mode: "production" });
  const definition = services.find(({ name }) => name === key.caller)!;
  const connection = open.use(connectService({ baseUrl: authUrl, key, clock }));
  const options = { config: { authUrl }, localUrl: () => undefined, clock, log, allowStale: false };
  const users = usersOfAuth(definition, new Map([["auth", connection]]), options);
  await users.keyRing.refresh();
  await open.use(users.followSessions!()).caughtUp;
  verify = createAccessTokenVerifier(users.keyRing, { issuer, clock });
  check = users.checkSession;
}

function note(session: Observed, answer: Answer, atMs: number): void {
  const last = session.runs.at(-1);
  if (last?.answer === answer) last.toMs = Math.max(last.toMs, atMs);
  else session.runs.push({ answer, fromMs: atMs, toMs: atMs });
}

function ask(session: Observed): void {
  verifications++;
  const askedMs = nowMs();
  const verified = verify(session.accessToken);
  if (!verified.ok) {
    // A key that was removed; anything else is a fault.
    const isRefused = verified.why === "unknown_kid";
    if (!isRefused) failures.add(`token: ${verified.why}`);
    note(session, isRefused ? "refused" : "failed", askedMs);
    return;
  }
  const live = check(verified.claims, "closed");
  if (typeof live === "boolean") {
    // An answer counts from the question: if the process was stopped since, whoever was let in had come before.
    note(session, live ? "accepted" : "refused", askedMs);
    session.nextMs = live ? 0 : askedMs + ENDED_POLL_MS;
    return;
  }
  // Others join the question meanwhile. One that was waited for counts when it has come.
  live.then(
    (isLive) => note(session, isLive ? "accepted" : "refused", nowMs()),
    (error: unknown) => note(session, answerOf(error), nowMs()),
  );
}

function answerOf(error: unknown): Answer {
  const { code } = ConnectError.from(error);
  if (reasonOf(error) === "AUTH_STALE") return "stale";
  failures.add(`check: ${code} ${error}`);
  return "failed";
}

/** For as long as the process lives; after a stop, the next turn is the first that anybody is answered in. */
function poll(): void {
  const now = nowMs();
  const startedUs = process.threadCpuUsage().user;
  turnsMs.push(now - lastTurnMs);
  lastTurnMs = now;
  for (const session of observed) if (session.fromMs <= now && session.nextMs <= now) ask(session);
  const tookMs = (process.threadCpuUsage().user - startedUs) / 1_000;
  setTimeout(poll, Math.min(Math.max(POLL_MS, tookMs / POLL_SHARE), LONGEST_PAUSE_MS));
}

poll();

answerCommands({
  follow,
  /** Begins with these sessions, and forgets others. */
  watch(sessions: Watched[]): void {
    turnsMs = [];
    observed = sessions.map((session) => ({ ...session, runs: [], nextMs: 0 }));
  },
  report(): Report {
    const runs = observed.map((session) => session.runs);
    return { runs, verifications, turnMs: quantile(turnsMs, 0.99), failures: [...failures] };
  },
});
