/** A whole system whose access tokens live a minute, and sessions of people in it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { decodeJwt } from "jose";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { connect } from "../db/connection.ts";
import { Code } from "../errors.ts";
import { type FaultProxy, startFaultProxy } from "../testing/fault-proxy.ts";
import { startTestSystem } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { createSession } from "./node-session.ts";
import type { Session, SessionOptions } from "./session.ts";

export const TOKEN_MS = 60_000;
export const GREETING = "Hello, Ann!";
const REFRESH = "/concierge.auth.v1.AuthService/RefreshToken";

type Options = SessionOptions & { url?: string };

/** Starts it. */
export async function startSessions() {
  await using opened = new AsyncDisposableStack();
  const variables = { CONCIERGE_AUTH_ACCESS_TOKEN_SECONDS: String(TOKEN_MS / 1000) };
  const system = opened.use(await startTestSystem({ variables }));
  const sql = connect(system.database("auth").ownerUrl, { applicationName: "concierge-test" });
  opened.defer(() => sql.end({ timeout: 1 }));
  const open = (options: Options = {}) => createSession({ url: system.publicUrl, clock: system.clock, ...options });
  const resources = opened.move();
  return {
    system,
    sql,
    open,
    /** A session of somebody new. */
    async signIn(options: Options = {}): Promise<Session> {
      const user = await system.newUser();
      const session = await open(options);
      await session.login(user);
      return session;
    },
    /** What stands between a session and the system. */
    proxy(): Promise<FaultProxy> {
      return startFaultProxy({ host: "127.0.0.1", port: Number(new URL(system.publicUrl).port) });
    },
    /** How many refresh tokens of a session were used. */
    async usedTokens(sessionId: string): Promise<number> {
      const [row] = await sql<{ count: number }[]>`
        select count(*)::int from refresh_tokens where session_id = ${sessionId} and used_at is not null`;
      return row!.count;
    },
    /** How many calls to refresh have come so far, of all sessions. */
    refreshCalls: () => system.logLines.filter(({ procedure }) => procedure === REFRESH).length,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

export type Sessions = Awaited<ReturnType<typeof startSessions>>;

export async function greet(session: Session): Promise<string> {
  return (await session.service(GreeterService).sayHello({ name: "Ann" })).message;
}

/** How the first call ends that the session's end has reached: by a feed, within a second. */
export function refusalOf(session: Session): Promise<unknown> {
  return until("the session has ended", () =>
    greet(session).then(
      () => undefined,
      (error: unknown) => error,
    ),
  );
}

/** The claims of its access token. */
export async function claimsOf(session: Session): Promise<{ sid: string; org?: string }> {
  return decodeJwt<{ sid: string; org?: string }>(await session.accessToken());
}

export function isSignedOut(error: unknown): boolean {
  return codeOf(error) === Code.Unauthenticated;
}

export function isUnavailable(error: unknown): boolean {
  return codeOf(error) === Code.Unavailable;
}

function codeOf(error: unknown): Code | undefined {
  return error instanceof ConnectError ? error.code : undefined;
}

/** An empty folder. */
export async function newFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), "concierge-session-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
