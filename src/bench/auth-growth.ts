/**
 * Growth (P9): the statements that find a person, as the services send them, among a thousand people and among many.
 */
import { createHash } from "node:crypto";
import type { Sql } from "postgres";
import { connect } from "../db/connection.ts";
import type { Goals } from "../prove/figures.ts";
import { testDatabase } from "../testing/cluster.ts";
import { type RecordedPerson, recordAuth } from "./auth-statements.ts";
import { compareGrowth, fillTables, openColdServer, type Size } from "./growth.ts";
import type { SentStatement } from "./recorded-statements.ts";

const FEW = 1_000;

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
  const { recorded, urls } = await openColdServer(() => prepare([FEW, many]), opened);
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
  for (const { what, service, statement } of questions) {
    const sizes = installations.map(({ people, sql }): Size => {
      const parameters = () => parametersFor(people, statement, recorded.person);
      return { name: `${people} people`, sql: sql[service], parameters };
    });
    await compareGrowth(goals, what, statement.query, sizes as [Size, Size]);
  }
}

/** Databases of each size. */
async function prepare(sizes: number[]) {
  const recorded = await recordAuth();
  const urls: { people: number; auth: string; user: string }[] = [];
  for (const people of sizes) {
    // They go with the folder.
    const [auth, user] = [await testDatabase(["platform", "auth"]), await testDatabase(["platform", "user"])];
    await fillTables(auth.ownerUrl, FILL_AUTH, people);
    await fillTables(user.ownerUrl, FILL_USER, people);
    urls.push({ people, auth: auth.runtimeUrl, user: user.runtimeUrl });
  }
  return { recorded, urls };
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

/** Anybody's, in the place of those of the person for whom the statement was recorded. */
function parametersFor(people: number, { parameters }: SentStatement, recorded: RecordedPerson): unknown[] {
  const person = personOf(1 + Math.floor(Math.random() * people));
  return parameters.map((value) => {
    const field = (Object.keys(recorded) as (keyof RecordedPerson)[]).find((key) => isSame(recorded[key], value));
    return field ? person[field] : value;
  });
}

function isSame(one: string | Buffer, other: unknown): boolean {
  return one instanceof Buffer ? other instanceof Uint8Array && one.equals(other) : one === other;
}
