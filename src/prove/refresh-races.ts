/** Two refreshes of one token, started together at two processes: with different keys, and with the same one. */
import type { Sql } from "postgres";
import { makeSessions, type Session } from "./auth-sessions.ts";
import type { AuthSetting } from "./auth-setting.ts";
import type { Goals } from "./figures.ts";
import { type AuthClient, clientAt, newKey, outcomeOf } from "./refresh-client.ts";

const AT_ONCE = 10;

interface Answer {
  refreshToken: string;
}

/** Runs `work` for every session, some at once. */
async function forAll<T>(sessions: Session[], work: (session: Session) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let start = 0; start < sessions.length; start += AT_ONCE) {
    results.push(...(await Promise.all(sessions.slice(start, start + AT_ONCE).map(work))));
  }
  return results;
}

/** Both at once, each at its own process; what is not an answer is a failure of the proof. */
async function race(clients: AuthClient[], { refreshToken }: Session, keys: string[]): Promise<(Answer | undefined)[]> {
  const outcomes = await Promise.all(
    clients.map((client, index) => outcomeOf(client.refreshToken({ refreshToken, idempotencyKey: keys[index]! }))),
  );
  return outcomes.map((outcome) => {
    if (outcome.kind === "failed") throw new Error(`a refresh failed: ${outcome.why}`);
    return outcome.kind === "done" ? outcome.answer : undefined;
  });
}

/** What the database says of these families. */
async function familiesOf(sql: Sql, sessions: Session[]) {
  const ids = sessions.map(({ sessionId }) => sessionId);
  const [found] = await sql`
    select count(*) filter (where rows > 2)::int as "doubleSuccessors", count(*) filter (where unused > 1)::int as "twoLive",
      count(*) filter (where ended_at is null)::int as live
    from (
      select s.id, s.ended_at, count(*) as rows, count(*) filter (where t.used_at is null) as unused
      from sessions s join refresh_tokens t on t.session_id = s.id where s.id = any(${ids}::uuid[]) group by s.id
    ) family`;
  return found as unknown as { doubleSuccessors: number; twoLive: number; live: number };
}

/** With different keys one of the two may be a thief: one gets a successor, and nobody keeps the family. */
export async function proveRaces(goals: Goals, { sql, keys, replicas }: AuthSetting, count: number): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const clients = replicas.map(({ publicUrl }) => clientAt(publicUrl, opened));
  const sessions = await makeSessions(sql, keys, count);
  const results = await forAll(sessions, (session) => race(clients, session, [newKey(), newKey()]));
  const winners = results.map((answers) => answers.filter((answer) => answer !== undefined).length);
  const { doubleSuccessors, twoLive, live } = await familiesOf(sql, sessions);
  const name = "S-REF-03 two refreshes of one token with different keys";
  goals.atLeast(`${name}: races`, winners.length, count);
  goals.atMost(`${name}: both succeeded`, winners.filter((number) => number > 1).length, 0);
  goals.atMost(`${name}: neither succeeded`, winners.filter((number) => number === 0).length, 0);
  goals.atMost(`${name}: families with two successors`, doubleSuccessors + twoLive, 0);
  goals.atMost(`${name}: families that live on`, live, 0);
  const wonByFirst = results.filter(([first]) => first !== undefined).length;
  goals.info(`${name}: the first process won ${wonByFirst}, the second ${count - wonByFirst}`);
}

/** With the same key it is one client, whose answer was lost: both times the same successor. */
export async function proveRepetitions(goals: Goals, { sql, keys, replicas }: AuthSetting, count: number) {
  await using opened = new AsyncDisposableStack();
  const clients = replicas.map(({ publicUrl }) => clientAt(publicUrl, opened));
  const sessions = await makeSessions(sql, keys, count);
  const results = await forAll(sessions, async (session) => {
    const key = newKey();
    const together = await race(clients, session, [key, key]);
    const later = await race([clients[1]!], session, [key]);
    return [...together, ...later].map((answer) => answer?.refreshToken);
  });
  const isIdentical = ([first, ...others]: (string | undefined)[]) =>
    first !== undefined && others.every((token) => token === first);
  const { doubleSuccessors, twoLive, live } = await familiesOf(sql, sessions);
  const name = "S-REF-04 one refresh repeated with its key";
  goals.atMost(`${name}: answers that differ`, results.filter((tokens) => !isIdentical(tokens)).length, 0);
  goals.atMost(`${name}: families with two successors`, doubleSuccessors + twoLive, 0);
  goals.atLeast(`${name}: families that live on`, live, count);
}
