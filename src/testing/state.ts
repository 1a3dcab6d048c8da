/**
 * Proof that a refused call left nothing behind: row counts and digests of every table of every database of a system, and
 * what the push stand-in accepted, read before and after.
 */
import assert from "node:assert/strict";
import { connect, identifier } from "../db/connection.ts";
import type { TestSystem } from "./system.ts";
import { until } from "./until.ts";

/** What services change by themselves, without a call: links that are added to the audit log, and how far feeds have come. */
const OWN_WORK = ["audit_chain", "feed_cursor", "feed_state"];
/** Rows that services go on with by themselves: what becomes of a mail. */
const COUNTED_ONLY = ["mails"];

/** By "service schema.table": row count and MD5 over all rows; and the number of pushes. */
export type SystemState = Record<string, string>;

/**
 * Reads the state of the databases of these services. A system with notification-sender is never at rest: it keeps asking
 * notification for work, and each question spends a token there.
 */
export async function readState(system: TestSystem, names: readonly string[]): Promise<SystemState> {
  const tables = await Promise.all(names.map((name) => readTables(name, system.database(name).ownerUrl)));
  const pushes = await system.pushes();
  return { ...Object.assign({}, ...tables), pushes: String(pushes.length) };
}

/** Runs `act` and fails if it changed anything that is stored. */
export async function assertNoStateChange<Result>(
  system: TestSystem,
  act: () => Promise<Result>,
  names: readonly string[],
): Promise<Result> {
  const before = await readState(system, names);
  const result = await act();
  assert.deepEqual(await readState(system, names), before, "something was stored");
  return result;
}

/** Resolves when access and user know everybody who has registered: they hear of it after the registration was answered. */
export async function untilHeard(system: TestSystem, names: readonly string[]): Promise<void> {
  const registered = await readColumn(system, "auth", "select id from accounts");
  const known: Record<string, string> = {
    access: "select user_id as id from known_accounts",
    user: "select user_id as id from profiles",
  };
  for (const name of names.filter((each) => each in known)) {
    await until(`${name} has heard of everybody`, async () => {
      const found = new Set(await readColumn(system, name, known[name]!));
      return registered.every((id) => found.has(id));
    });
  }
}

async function readColumn(system: TestSystem, service: string, query: string): Promise<string[]> {
  const sql = connect(system.database(service).ownerUrl, { applicationName: "concierge-test state" });
  try {
    return (await sql.unsafe<{ id: string }[]>(query)).map(({ id }) => id);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function readTables(service: string, ownerUrl: string): Promise<SystemState> {
  const sql = connect(ownerUrl, { applicationName: "concierge-test state" });
  try {
    const tables = await sql<{ schema: string; name: string }[]>`
      select schemaname as schema, tablename as name from pg_tables
      where schemaname not in ('pg_catalog', 'information_schema') order by 1, 2`;
    assert.ok(tables.length > 0, `${service} has no tables`);
    const queries = tables.flatMap(({ schema, name }) => {
      if (OWN_WORK.includes(name)) return [];
      const label = `'${service} ${schema}.${name}'`;
      // An event gets its position after the commit, from whoever is first to give it one.
      const row = name === "feed_outbox" ? "(to_jsonb(t) - 'position')::text" : "t::text";
      const digest = `md5(string_agg(${row}, E'\\n' order by ${row} collate "C"))`;
      const rows = `select count(*) || ' ' || coalesce(${COUNTED_ONLY.includes(name) ? "''" : digest}, '')`;
      return `select ${label} as label, (${rows} from ${identifier(schema)}.${identifier(name)} t) as digest`;
    });
    const digests = await sql.unsafe<{ label: string; digest: string }[]>(queries.join(" union all "));
    return Object.fromEntries(digests.map(({ label, digest }) => [label, digest]));
  } finally {
    await sql.end({ timeout: 1 });
  }
}
