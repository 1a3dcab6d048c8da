/** Logins and refreshes that run while the password changes, the account is disabled, or the session is logged out. */
import { hash } from "argon2";
import type { Sql } from "postgres";
import { AuthInternalService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connectService } from "../client/service-client.ts";
import { systemClock } from "../clock.ts";
import type { ServiceKey } from "../config.ts";
import { emailOf, makeSessions, type Session } from "./auth-sessions.ts";
import type { AuthSetting } from "./auth-setting.ts";
import type { Goals } from "./figures.ts";
import { type AuthClient, clientAt, clientOf, newKey, outcomeOf } from "./refresh-client.ts";

const PASSWORD = "of a proof: wintry gallop 4711";
const NEW_PASSWORD = "of a proof: summery trot 4712";
const LOGINS = 2;

/** Two that run at once with the end of the sessions, at both processes. */
async function racers(clients: AuthClient[], session: Session, withLogins: boolean): Promise<string[]> {
  const { refreshToken } = session;
  const refreshing = outcomeOf(clients[0]!.refreshToken({ refreshToken, idempotencyKey: newKey() }));
  const logins = Array.from({ length: withLogins ? LOGINS : 0 }, (_, index) =>
    outcomeOf(clients[index % 2]!.login({ email: emailOf(session), password: PASSWORD })),
  );
  const outcomes = await Promise.all([refreshing, ...logins]);
  return outcomes.flatMap((outcome) => {
    if (outcome.kind === "failed") throw new Error(`a call failed: ${outcome.why}`);
    return outcome.kind === "done" ? [outcome.answer.refreshToken] : [];
  });
}

/** Tokens that were handed out in a race and still refresh. */
async function survivorsOf(client: AuthClient, tokens: string[]): Promise<number> {
  const outcomes = await Promise.all(tokens.map((refreshToken) => outcomeOf(client.refreshToken({ refreshToken }))));
  return outcomes.filter(({ kind }) => kind !== "refused").length;
}

/** Sessions that live although their account is not active or has gone to another generation. */
async function strayOf(sql: Sql): Promise<number> {
  const [row] = await sql`select count(*)::int as count from sessions s join accounts a on a.id = s.account_id
    where s.ended_at is null and (a.status <> 'active' or a.generation <> s.generation)`;
  return row!.count;
}

export async function proveEnds(
  goals: Goals,
  { sql, keys, replicas }: AuthSetting,
  { operator, rounds }: { operator: ServiceKey; rounds: number },
): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const [first, second] = replicas;
  const clients = replicas.map(({ publicUrl }) => clientAt(publicUrl, opened));
  const baseUrl = second.internalUrl;
  const internal = opened
    .use(connectService({ baseUrl, key: operator, clock: systemClock }))
    .client(AuthInternalService);
  const passwordHash = await hash(PASSWORD, { memoryCost: 19_456, timeCost: 2, parallelism: 1 });
  const ends: Record<string, { withLogins: boolean; end(session: Session): Promise<unknown> }> = {
    "a password change": {
      withLogins: true,
      async end({ accessToken }) {
        await using mine = new AsyncDisposableStack();
        const passwords = { currentPassword: PASSWORD, newPassword: NEW_PASSWORD };
        return await clientOf(second.publicUrl, accessToken, mine).changePassword(passwords);
      },
    },
    "a disabled account": { withLogins: true, end: ({ userId }) => internal.disableAccount({ userId }) },
    "an end of all sessions": { withLogins: false, end: ({ userId }) => internal.endUserSessions({ userId }) },
    "a logout": { withLogins: false, end: ({ refreshToken }) => clients[1]!.logout({ refreshToken }) },
  };
  for (const [what, { withLogins, end }] of Object.entries(ends)) {
    const sessions = await makeSessions(sql, keys, rounds);
    const ids = sessions.map(({ userId }) => userId);
    await sql`insert into credentials (account_id, password_hash) select id, ${passwordHash} from unnest(${ids}::uuid[]) id`;
    let survivors = 0;
    let handedOut = 0;
    for (const session of sessions) {
      const [tokens] = await Promise.all([racers(clients, session, withLogins), end(session)]);
      handedOut += tokens.length;
      survivors += await survivorsOf(clientAt(first.publicUrl, opened), tokens);
    }
    const name = `S-REF-20 S-REF-21 refreshes${withLogins ? " and logins" : ""} with ${what}`;
    goals.info(`${name}: ${rounds} rounds, ${handedOut} tokens were handed out before the end`);
    goals.atMost(`${name}: tokens that survive`, survivors, 0);
    goals.atMost(`${name}: sessions that survive`, await strayOf(sql), 0);
  }
}
