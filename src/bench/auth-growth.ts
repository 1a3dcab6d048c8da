/**
 * Growth (P9): the statements that find a person, as the services send them, among a thousand people and among many. Both
 * databases are asked in turn, by a server with hardly a page in its own memory, so nearly every page is read from the system.
 */
import { createHash } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Sql } from "postgres";
import { connect } from "../db/connection.ts";
import { startPostgres } from "../dev/postgres.ts";
import type { Goals } from "../prove/figures.ts";
import { CLUSTER_VARIABLE, testDatabase } from "../testing/cluster.ts";
import { type RecordedPerson, recordAuth } from "./auth-statements.ts";
import { machineMs } from "./feed-database.ts";
import { median, quantile } from "./figures.ts";
import type { SentStatement } from "./recorded-statements.ts";

const FEW = 1_000;
const WARM_UP = 200;
const SAMPLES = 3_000;
const EXPLAINED = 200;
const SETTINGS = { fsync: "off", synchronous_commit: "off", full_page_writes: "off", autovacuum: "off" };

/** One size of the installation. */
interface Installation {
  people: number;
  /** Connections by service. */
  sql: Record<"auth" | "user", Sql>;
}

interface Question {
  what: string;
  service: "auth" | "user";
  statement: SentStatement;
}

export async function measureGrowth(goals: Goals, many: number): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-bench-growth-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  // A root process runs the server as another account, which must get in.
  await chmod(folder, 0o755);
  const { recorded, urls, port } = await prepare(folder, [FEW, many]);
  const settings = { ...SETTINGS, shared_buffers: "256kB" };
  opened.use(await startPostgres({ folder, port, settings }));
  const open = (url: string) => {
    const sql = connect(url, { applicationName: "bench" });
    opened.defer(() => sql.end({ timeout: 1 }));
    return sql;
  };
  const installations = urls.map(({ people, auth, user }): Installation => {
    return { people, sql: { auth: open(auth), user: open(user) } };
  });
  const { credential, lock, account, sessions, profile } = recorded.statements;
  const questions: Question[] = [
    { what: "a credential by its address (login)", service: "auth", statement: credential },
    { what: "the lock of a refresh", service: "auth", statement: lock },
    { what: "GetAccount", service: "auth", statement: account },
    { what: "ListSessions", service: "auth", statement: sessions },
    { what: "a profile (GetMe)", service: "user", statement: profile },
  ];
  for (const question of questions) await compare(goals, question, recorded.person, installations);
}

/** Databases of each size in a folder, once with a server that has the memory to fill them. */
async function prepare(folder: string, sizes: number[]) {
  await using server = await startPostgres({ folder, settings: { ...SETTINGS, max_wal_size: "2GB" } });
  process.env[CLUSTER_VARIABLE] = server.url;
  const recorded = await recordAuth();
  const urls: { people: number; auth: string; user: string }[] = [];
  for (const people of sizes) {
    // They go with the folder.
    const [auth, user] = [await testDatabase(["platform", "auth"]), await testDatabase(["platform", "user"])];
    await fill(auth.ownerUrl, FILL_AUTH, people);
    await fill(user.ownerUrl, FILL_USER, people);
    urls.push({ people, auth: auth.runtimeUrl, user: user.runtimeUrl });
  }
  return { recorded, urls, port: Number(new URL(server.url).port) };
}

/** Everybody's ids, address and token follow from a number: see personOf(). */
const FILL_AUTH = [
  `insert into accounts (id, email, email_key, first_name, last_name, locale)
    select md5('account ' || n)::uuid, n || '@example.com', n || '@example.com', 'Ann', 'Lee', 'en' from generate_series(1, $1::int) n`,
  `insert into credentials (account_id, password_hash)
    select md5('account ' || n)::uuid, '$argon2id$v=19$m=19456,p=1,t=2$' || repeat('x', 66) from generate_series(1, $1::int) n`,
  `insert into sessions (id, account_id, generation, user_agent, address, expires_at, tokens_expire_at)
    select md5('session ' || n)::uuid, md5('account ' || n)::uuid, 0, 'bench', '127.0.0.1', now() + interval '30 days', now()
    from generate_series(1, $1::int) n`,
  `insert into refresh_tokens (session_id, number, token_hash)
    select md5('session ' || n)::uuid, 1, sha256(('token ' || n)::bytea) from generate_series(1, $1::int) n`,
];

const FILL_USER = [
  `insert into profiles (user_id, kind, email, first_name, last_name, locale, created_at)
    select md5('account ' || n)::uuid, 'user', n || '@example.com', 'Ann', 'Lee', 'en', now() from generate_series(1, $1::int) n`,
];

/**
 * Analyzed, and not vacuumed: who then locks the first row of a page would also touch the visibility map, which nearly
 * everybody is among many people, and nobody among few.
 */
async function fill(ownerUrl: string, statements: string[], people: number): Promise<void> {
  const sql = connect(ownerUrl, { applicationName: "bench" });
  for (const statement of statements) await sql.unsafe(statement, [people]);
  await sql.unsafe("analyze");
  await sql.end();
}

function personOf(number: number): RecordedPerson {
  const uuid = (text: string) =>
    createHash("md5")
      .update(text)
      .digest("hex")
      .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  return {
    userId: uuid(`account ${number}`),
    sessionId: uuid(`session ${number}`),
    email: `${number}@example.com`,
    tokenHash: createHash("sha256").update(`token ${number}`).digest(),
  };
}

async function compare(goals: Goals, question: Question, recorded: RecordedPerson, installations: Installation[]) {
  const { what, service, statement } = question;
  const results = installations.map(() => ({ tookMs: [] as number[], pages: [] as number[], indexes: 0 }));
  for (let turn = 0; turn < WARM_UP + SAMPLES; turn++) {
    for (const [index, { people, sql }] of installations.entries()) {
      const parameters = parametersFor(people, statement, recorded);
      const startMs = machineMs();
      const rows = await sql[service].unsafe(statement.query, parameters, { prepare: true });
      if (turn >= WARM_UP) results[index]!.tookMs.push(machineMs() - startMs);
      if (rows.length !== 1) throw new Error(`${what}: ${rows.length} rows were found`);
    }
  }
  for (const [index, { people, sql }] of installations.entries()) {
    const result = results[index]!;
    for (let turn = 0; turn < EXPLAINED; turn++) {
      const plan = await explain(sql[service], statement.query, parametersFor(people, statement, recorded));
      result.pages.push(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]);
      result.indexes = indexesIn(plan);
    }
  }
  tell(goals, what, installations, results);
}

function tell(
  goals: Goals,
  what: string,
  [few, many]: Installation[],
  [small, large]: { tookMs: number[]; pages: number[]; indexes: number }[],
): void {
  const sizes = `${many!.people}/${few!.people} people`;
  const [before, after] = [quantile(small!.tookMs, 0.99), quantile(large!.tookMs, 0.99)];
  const medians = `${median(small!.tookMs).toFixed(3)}, ${median(large!.tookMs).toFixed(3)}`;
  const times = `p99 ${before.toFixed(3)}, ${after.toFixed(3)} ms; p50 ${medians} ms`;
  goals.ratioAtMost(`P9 ${what}, p99 with cold caches, ${sizes}`, after / before, 1.5, times);
  const pages = [median(small!.pages), median(large!.pages)] as const;
  const raw = `${pages[0]}, ${pages[1]} pages; ${large!.indexes} indexes used`;
  goals.atMost(`P9 ${what}, more pages, ${sizes}`, pages[1] - pages[0], large!.indexes, raw);
}

/** Anybody's, in the place of those of the person for whom the statement was recorded. */
function parametersFor(people: number, { parameters }: SentStatement, recorded: RecordedPerson): never[] {
  const person = personOf(1 + Math.floor(Math.random() * people));
  const replaced = parameters.map((value) => {
    const field = (Object.keys(recorded) as (keyof RecordedPerson)[]).find((key) => isSame(recorded[key], value));
    return field ? person[field] : value;
  });
  return replaced as never[];
}

function isSame(one: string | Buffer, other: unknown): boolean {
  return one instanceof Buffer ? other instanceof Uint8Array && one.equals(other) : one === other;
}

interface Plan {
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  "Index Name"?: string;
  Plans?: Plan[];
}

async function explain(sql: Sql, query: string, parameters: never[]): Promise<Plan> {
  const explained = `explain (analyze, buffers, format json) ${query}`;
  const [row] = await sql.unsafe<{ "QUERY PLAN": [{ Plan: Plan }] }[]>(explained, parameters);
  return row!["QUERY PLAN"][0].Plan;
}

function indexesIn({ "Index Name": name, Plans = [] }: Plan): number {
  return Plans.reduce((sum, plan) => sum + indexesIn(plan), name === undefined ? 0 : 1);
}
