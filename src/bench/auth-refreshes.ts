/** Refreshing over RPC, beside pgbench with the same statements on the same tables. */
import { makeSessions, type Session } from "../prove/auth-sessions.ts";
import type { AuthSetting } from "../prove/auth-setting.ts";
import type { Goals } from "../prove/figures.ts";
import { type AuthClient, clientAt, newKey } from "../prove/refresh-client.ts";
import { recordAuth } from "./auth-statements.ts";
import { machineMs } from "./feed-database.ts";
import { median } from "./figures.ts";
import { pgbenchPerSecond, scriptOf } from "./pgbench.ts";

const AT_ONCE = 8;
const SECONDS = 8;
const ROUNDS = 3;
const FAMILIES = 20_000;

/** The person of each of pgbench's turns, which makeFamilies() has made. */
const TURN = String.raw`
\set turn :turn + 1
\set family (:client_id * 1000000) + :turn`;

export async function measureRefreshes(goals: Goals, setting: AuthSetting): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const { statements, person } = await recordAuth();
  const script = scriptOf(TURN, statements.refresh, [
    [person.sessionId, "md5((:family)::text)::uuid"],
    [person.tokenHash, "sha256((:family)::text::bytea)"],
  ]);
  const clients = setting.replicas.map(({ publicUrl }) => clientAt(publicUrl, opened));
  await refreshesPerSecond(clients, await makeSessions(setting.sql, setting.keys, 200), 1);
  const rates = { ours: [] as number[], pgbench: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    await makeFamilies(setting);
    rates.pgbench.push(await pgbenchPerSecond(setting.databaseUrl, script, { clients: AT_ONCE, seconds: SECONDS }));
    const sessions = await makeSessions(setting.sql, setting.keys, 1_000);
    rates.ours.push(await refreshesPerSecond(clients, sessions, SECONDS));
  }
  const ratios = rates.ours.map((rate, round) => rate / rates.pgbench[round]!);
  const text = (values: number[]) => values.map((value) => value.toFixed(0)).join(" ");
  const raw = `refreshes/s ${text(rates.ours)}; pgbench/s ${text(rates.pgbench)}; ${AT_ONCE} at once`;
  goals.atLeast("P4b refreshes over RPC, share of pgbench with the same statements", median(ratios), 0.5, raw);
}

/** Of the first token each, which pgbench can name. */
async function makeFamilies({ sql }: AuthSetting): Promise<void> {
  await sql`truncate refresh_tokens, sessions, credentials, accounts cascade`;
  await sql`
    with family as (
      select client * 1000000 + turn as number from generate_series(0, ${AT_ONCE - 1}::int) client, generate_series(1, ${FAMILIES}::int) turn
    ), account as (
      insert into accounts (id, email, email_key, first_name, last_name, locale)
      select md5(number::text)::uuid, number::text, number::text, '', '', '' from family
    ), session as (
      insert into sessions (id, account_id, generation, expires_at, tokens_expire_at)
      select md5(number::text)::uuid, md5(number::text)::uuid, 0, now() + interval '30 days', now() from family
    )
    insert into refresh_tokens (session_id, number, token_hash)
    select md5(number::text)::uuid, 1, sha256(number::text::bytea) from family`;
  await sql`analyze`;
}

/** Each its own families, in turn; a family is refreshed once a minute and more seldom than is allowed. */
async function refreshesPerSecond(clients: AuthClient[], sessions: Session[], seconds: number): Promise<number> {
  const tokens = sessions.map(({ refreshToken }) => refreshToken);
  const startMs = machineMs();
  let count = 0;
  const again = async (first: number) => {
    for (let turn = first; machineMs() - startMs < seconds * 1_000; turn += AT_ONCE) {
      const index = turn % tokens.length;
      const call = { refreshToken: tokens[index]!, idempotencyKey: newKey() };
      tokens[index] = (await clients[turn % clients.length]!.refreshToken(call)).refreshToken;
      count++;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, first) => again(first)));
  return (count * 1_000) / (machineMs() - startMs);
}
