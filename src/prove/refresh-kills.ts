/**
 * Clients that refresh all the time, each its own family, while the processes that answer them are killed. A call whose answer was
 * lost is repeated with its key, at the other process: no family may end by that, and no token may be answered twice.
 */
import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { Random } from "../testing/seeded.ts";
import { makeSessions, type Session } from "./auth-sessions.ts";
import type { AuthReplica, AuthSetting } from "./auth-setting.ts";
import type { Goals } from "./figures.ts";
import { clientAt, newKey, outcomeOf } from "./refresh-client.ts";

const FAMILIES = 100;
const BETWEEN_KILLS_MS = 1_000;
/** Below what one family may do in a minute. */
const PAUSE_MS = 1_100;
const TRY_AGAIN_MS = 20;

/** What a client has been told. */
interface Chain {
  session: Session;
  /** In order; the first one is the login's. */
  tokens: string[];
  /** Calls that were made again because nobody answered. */
  repeated: number;
  isEnded: boolean;
}

/** Replicas of which one may be missing; a client asks the other one then. */
type Replicas = (AuthReplica | undefined)[];

async function refreshOn(chain: Chain, replicas: Replicas, isOver: () => boolean): Promise<void> {
  for (let turn = 0; !isOver() && !chain.isEnded; turn++) {
    await refreshOnce(chain, replicas, turn);
    await delay(PAUSE_MS);
  }
}

/** Until it is answered. */
async function refreshOnce(chain: Chain, replicas: Replicas, turn: number): Promise<void> {
  const refreshToken = chain.tokens.at(-1)!;
  const idempotencyKey = newKey();
  for (let tries = 0; ; tries++) {
    const replica = replicas[(turn + tries) % replicas.length];
    if (replica) {
      await using opened = new AsyncDisposableStack();
      const outcome = await outcomeOf(
        clientAt(replica.publicUrl, opened).refreshToken({ refreshToken, idempotencyKey }),
      );
      if (outcome.kind === "done") return void chain.tokens.push(outcome.answer.refreshToken);
      chain.isEnded = outcome.kind === "refused";
      if (chain.isEnded) return;
      chain.repeated++;
    }
    await delay(TRY_AGAIN_MS);
  }
}

/** Families whose rows are not exactly what their clients were told. */
async function tornFamilies(sql: Sql, chains: Chain[]): Promise<number> {
  let torn = 0;
  for (const { session, tokens } of chains) {
    const rows = await sql`select encode(token_hash, 'hex') as hash, used_at is null as unused from refresh_tokens
      where session_id = ${session.sessionId} order by number`;
    const told = tokens.map((token) => createHash("sha256").update(token).digest("hex"));
    const isSame = rows.length === told.length && rows.every(({ hash }, index) => hash === told[index]);
    if (!isSame || rows.findIndex(({ unused }) => unused) !== rows.length - 1) torn++;
  }
  return torn;
}

export async function proveKills(
  goals: Goals,
  { sql, keys, replicas: started, startReplica }: AuthSetting,
  { kills, seed }: { kills: number; seed: number },
): Promise<void> {
  const replicas: Replicas = [...started];
  const sessions = await makeSessions(sql, keys, FAMILIES);
  const chains = sessions.map((session) => ({ session, tokens: [session.refreshToken], repeated: 0, isEnded: false }));
  const random = new Random(seed);
  let isOver = false;
  const running = Promise.all(chains.map((chain) => refreshOn(chain, replicas, () => isOver)));
  for (let kill = 0; kill < kills; kill++) {
    await delay(random.below(BETWEEN_KILLS_MS));
    const victim = kill % replicas.length;
    await replicas[victim]!.worker[Symbol.asyncDispose]();
    replicas[victim] = undefined;
    replicas[victim] = await startReplica();
  }
  isOver = true;
  await running;
  const sum = (count: (chain: Chain) => number) => chains.reduce((total, chain) => total + count(chain), 0);
  const refreshes = sum(({ tokens }) => tokens.length - 1);
  goals.info(`kill -9: ${kills} kills, ${refreshes} refreshes, ${sum(({ repeated }) => repeated)} calls made again`);
  goals.atMost("S-REF-06 kill -9: families that ended", chains.filter(({ isEnded }) => isEnded).length, 0);
  goals.atMost(
    "R-CON-05, S-REF-06 kill -9: families that are not what was answered",
    await tornFamilies(sql, chains),
    0,
  );
  const used = chains.flatMap(({ tokens }) => (tokens.length > 1 ? [tokens.at(-2)!] : []));
  await using opened = new AsyncDisposableStack();
  const client = clientAt(replicas[0]!.publicUrl, opened);
  const replays = await Promise.all(used.map((refreshToken) => outcomeOf(client.refreshToken({ refreshToken }))));
  const accepted = replays.filter(({ kind }) => kind !== "refused").length;
  goals.atMost("S-REF-06 used tokens that are accepted after the kills", accepted, 0);
}
