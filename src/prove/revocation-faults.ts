/**
 * Standing still: processes that are stopped for a while, and snapshots that a dump holds. What stops a process also lets it go
 * on, in a process of its own, so that nothing stands still for ever if the proof is killed meanwhile.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import type { Sql } from "postgres";
import { connectOnce } from "../db/connection.ts";

const STOP_AND_GO = `
for pid in "$@"; do kill -STOP "$pid"; done
echo stopped
sleep "$SECONDS_STOPPED"
for pid in "$@"; do kill -CONT "$pid"; done
`;
const DUMP_APART_MS = 100;
const STAMPED_AT_ONCE = 10_000;

/** Stops processes with SIGSTOP. Resolves when they stand still, to a promise of their going on. */
export async function stopFor(pids: number[], ms: number): Promise<{ over: Promise<unknown> }> {
  const shell = spawn("/bin/sh", ["-c", STOP_AND_GO, "stop-and-go", ...pids.map(String)], {
    env: { PATH: process.env.PATH, SECONDS_STOPPED: String(ms / 1_000) },
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const over = once(shell, "exit");
  await once(shell.stdout, "data");
  return { over };
}

/** Stops a whole PostgreSQL server: the postmaster first, so that no process of it is born meanwhile. */
export async function stopPostgresFor(sql: Sql, ms: number): Promise<{ over: Promise<unknown> }> {
  const [row] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
  const postmaster = parentOf(row!.pid)!;
  const stopped = await stopFor([postmaster], ms);
  const children = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && parentOf(Number(name)) === postmaster);
  const { over } = await stopFor(children.map(Number), ms);
  return { over: Promise.all([stopped.over, over]) };
}

function parentOf(pid: number): number | undefined {
  try {
    // The name, in parentheses, may have spaces.
    return Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[1]);
  } catch {
    return undefined; // it has ended just now
  }
}

/** For how long a process was ready to run but had no processor, in all. */
export function waitedMs(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[1]) / 1e6;
}

/** Holds what a dump holds: one snapshot, and the weakest lock on every table. Disposing ends it. */
export async function holdSnapshot(url: string): Promise<AsyncDisposable> {
  const sql = connectOnce(url, { applicationName: "concierge-prove-snapshot" });
  await sql`begin isolation level repeatable read read only`;
  const tables = await sql<{ name: string }[]>`select tablename as name from pg_tables where schemaname = 'public'`;
  for (const { name } of tables) await sql.unsafe(`select from "${name}" limit 1`);
  return { [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }) };
}

/** Runs pg_dump again and again, where there is one that fits the server. Disposing ends it; `count` says how many ended well. */
export function keepDumping(url: string): AsyncDisposable & { readonly count: number } {
  const { hostname, port, username, password, pathname } = new URL(url);
  const env = {
    PATH: process.env.PATH,
    PGHOST: hostname,
    PGPORT: port,
    PGUSER: decodeURIComponent(username),
    PGPASSWORD: decodeURIComponent(password),
    PGDATABASE: decodeURIComponent(pathname.slice(1)),
  };
  let [count, isOver] = [0, false];
  const dumping = (async () => {
    while (!isOver) {
      const dump = spawn("pg_dump", ["--no-sync"], { env, stdio: "ignore" });
      const [code] = (await once(dump, "exit").catch(() => [1])) as [number];
      if (code !== 0) return;
      count++;
      await new Promise((resolve) => setTimeout(resolve, DUMP_APART_MS));
    }
  })();
  return {
    get count() {
      return count;
    },
    async [Symbol.asyncDispose]() {
      isOver = true;
      await dumping;
    },
  };
}

/** Publishes events and gives them their places: with a snapshot held, each leaves a dead row and dead index entries behind. */
export async function publishMany(sql: Sql, count: number): Promise<void> {
  for (let done = 0; done < count; done += STAMPED_AT_ONCE) {
    await sql`
      insert into feed_outbox (type, subject, version, payload)
      select 'concierge.auth.v1.SessionStarted', 'account/' || gen_random_uuid(), 1, ''
      from generate_series(1, ${Math.min(STAMPED_AT_ONCE, count - done)}::integer)`;
    await sql`select feed_stamp(${STAMPED_AT_ONCE}::integer)`;
  }
}
