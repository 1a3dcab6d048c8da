/** Refreshing over RPC, beside pgbench with the same statements on the same tables. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { makeSessions, type Session } from "../prove/auth-sessions.ts";
import type { AuthSetting } from "../prove/auth-setting.ts";
import type { Goals } from "../prove/figures.ts";
import { type AuthClient, clientAt, newKey } from "../prove/refresh-client.ts";
import { machineMs } from "./feed-database.ts";
import { median } from "./figures.ts";

const AT_ONCE = 8;
const SECONDS = 8;
const ROUNDS = 3;
const FAMILIES = 20_000;

/** As refreshes.ts sends them, one family after the other. */
const SCRIPT = String.raw`
\set turn :turn + 1
\set family (:client_id * 1000000) + :turn
begin;
select s.id, s.account_id, s.generation,
  a.status = 'active' and a.generation = s.generation and s.ended_at is null and s.expires_at > concierge_now()
    and s.last_used_at > concierge_now() - make_interval(secs => 1209600),
  floor(extract(epoch from s.created_at))::float8, floor(extract(epoch from s.expires_at))::float8
from refresh_tokens t join sessions s on s.id = t.session_id join accounts a on a.id = s.account_id
where t.token_hash = sha256((:family)::text::bytea) for share of a for no key update of s;
select t.number, t.used_at is not null,
  coalesce(t.idempotency_key_hash = sha256('key'::bytea) and n.used_at is null
    and t.used_at > concierge_now() - make_interval(secs => 10), false), n.key_id,
  greatest(0, coalesce(extract(epoch from earlier.used_at + interval '1 minute' - concierge_now()) * 1000, 0))::float8
from refresh_tokens t
  left join refresh_tokens n on n.session_id = t.session_id and n.number = t.number + 1
  left join refresh_tokens earlier on earlier.session_id = t.session_id and earlier.number = t.number - 60
where t.session_id = md5((:family)::text)::uuid and t.token_hash = sha256((:family)::text::bytea);
with used as (
  update refresh_tokens set used_at = concierge_now(), idempotency_key_hash = sha256('key'::bytea)
  where session_id = md5((:family)::text)::uuid and number = 1
)
insert into refresh_tokens (session_id, number, token_hash, key_id)
values (md5((:family)::text)::uuid, 2, sha256(('next' || :family)::bytea), 'a-key');
update sessions set last_used_at = concierge_now(), address = '127.0.0.1', user_agent = 'pgbench',
  tokens_expire_at = greatest(tokens_expire_at, concierge_now() + make_interval(secs => 300))
where id = md5((:family)::text)::uuid;
commit;
`;

export async function measureRefreshes(goals: Goals, setting: AuthSetting): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-bench-auth-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "refresh.sql");
  await writeFile(file, SCRIPT);
  const clients = setting.replicas.map(({ publicUrl }) => clientAt(publicUrl, opened));
  await refreshesPerSecond(clients, await makeSessions(setting.sql, setting.keys, 200), 1);
  const rates = { ours: [] as number[], pgbench: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    await makeFamilies(setting);
    rates.pgbench.push(await pgbenchPerSecond(setting.databaseUrl, file));
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

/** Transactions in a second; prepared, as ours are. */
async function pgbenchPerSecond(url: string, file: string): Promise<number> {
  const options = [
    "-n",
    "-M",
    "prepared",
    "-c",
    `${AT_ONCE}`,
    "-j",
    "2",
    "-T",
    `${SECONDS}`,
    "-D",
    "turn=0",
    "-f",
    file,
  ];
  const { stdout } = await promisify(execFile)("pgbench", [...options, url]);
  const found = /^tps = ([\d.]+)/m.exec(stdout);
  if (!found || !/number of failed transactions: 0 /.test(stdout)) throw new Error(`pgbench failed:\n${stdout}`);
  return Number(found[1]);
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
