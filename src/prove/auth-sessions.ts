/**
 * Sessions for a proof, put into auth's database as a login leaves them but without its password hash, and their ends, which
 * are real calls.
 */
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { Sql } from "postgres";
import { v7 as uuidv7 } from "uuid";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { systemClock } from "../clock.ts";
import { signAccessToken } from "../token/access-token.ts";
import { createSigner, type KeySet } from "../token/signing-keys.ts";
import { nowMs } from "./revocation-clock.ts";

export const ISSUER = "https://auth.example";
/** As auth does unless told otherwise. */
const TOKEN_SECONDS = 300;
const TRY_AGAIN_MS = 50;
const MOST_OPEN = 50;

export interface Session {
  userId: string;
  sessionId: string;
  accessToken: string;
  refreshToken: string;
}

/** The address of an account that was made here. */
export function emailOf({ userId }: Session): string {
  return `${userId}@example.com`;
}

/** When a session was ended: the call that does it was sent, and answered. */
export interface Revocation {
  sentMs: number;
  answeredMs: number;
}

/** Each of an account of its own. `sql` is of the owner of auth's database. */
export async function makeSessions(sql: Sql, keys: KeySet, count: number): Promise<Session[]> {
  const signer = createSigner(keys);
  const expiresAt = Math.floor(systemClock.now() / 1000) + TOKEN_SECONDS;
  const made = Array.from({ length: count }, () => {
    const [userId, sessionId] = [uuidv7(), uuidv7()];
    const claims = { userId, sessionId, generation: 0, authenticatedAt: expiresAt - TOKEN_SECONDS, expiresAt };
    const accessToken = signAccessToken(signer, { issuer: ISSUER, clock: systemClock }, claims);
    return { userId, sessionId, accessToken, refreshToken: randomBytes(32).toString("base64url") };
  });
  const users = made.map(({ userId }) => userId);
  const sessions = made.map(({ sessionId }) => sessionId);
  const hashes = made.map(({ refreshToken }) => createHash("sha256").update(refreshToken).digest("hex"));
  await sql.begin(async (tx) => {
    await tx`
      insert into accounts (id, email, email_key, first_name, last_name, locale)
      select id, id || '@example.com', id || '@example.com', 'Ann', 'Lee', 'en' from unnest(${users}::uuid[]) as id`;
    await tx`
      insert into sessions (id, account_id, generation, expires_at, tokens_expire_at)
      select id, account, 0, concierge_now() + interval '30 days', to_timestamp(${expiresAt})
      from unnest(${sessions}::uuid[], ${users}::uuid[]) as made (id, account)`;
    await tx`
      insert into refresh_tokens (session_id, number, token_hash)
      select id, 1, decode(hash, 'hex') from unnest(${sessions}::uuid[], ${hashes}::text[]) as made (id, hash)`;
  });
  return made;
}

/** Ends a session, and says when. */
export type End = (session: Session) => Promise<Revocation>;

/** Calls Logout over one connection, which `opened` closes. */
export function logoutAt(publicUrl: string, opened: AsyncDisposableStack): End {
  const sessionManager = new Http2SessionManager(publicUrl);
  opened.defer(() => sessionManager.abort());
  const transport = createConnectTransport({ baseUrl: publicUrl, httpVersion: "2", sessionManager });
  const auth = createClient(AuthService, transport);
  return untilAnswered(({ refreshToken }) => auth.logout({ refreshToken }));
}

/** Makes a call that fails again until it is answered: only then its session has ended for certain. */
export function untilAnswered(call: (session: Session) => Promise<unknown>): End {
  return async (session) => {
    const sentMs = nowMs();
    for (;;) {
      const isDone = await call(session).then(
        () => true,
        () => false,
      );
      if (isDone) return { sentMs, answeredMs: nowMs() };
      await delay(TRY_AGAIN_MS);
    }
  };
}

/** Ends sessions at their times; later when so many calls are open, as a machine that is too slow only gets slower by more. */
export async function endAt(sessions: Session[], dueMs: number[], end: End): Promise<Revocation[]> {
  const open = new Set<Promise<Revocation>>();
  const ended: Promise<Revocation>[] = [];
  for (const [index, session] of sessions.entries()) {
    await delay(Math.max(0, dueMs[index]! - nowMs()));
    while (open.size >= MOST_OPEN) await Promise.race(open);
    const ending = end(session);
    ended.push(ending);
    open.add(ending);
    void ending.finally(() => open.delete(ending));
  }
  return Promise.all(ended);
}
