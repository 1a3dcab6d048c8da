/**
 * Proof that a refused call left nothing behind: row counts and digests of every table of every database of a system, and
 * what the push stand-in accepted, read before and after.
 */
import assert from "node:assert/strict";
import { connect, identifier } from "../db/connection.ts";
import type { TestSystem } from "./system.ts";

/** What services change by themselves, without a call: links that are added to the audit log, and what becomes of a mail. */
const OWN_WORK = ["audit_chain"];
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
      const digest = `md5(string_agg(t::text, E'\\n' order by t::text collate "C"))`;
      const rows = `select count(*) || ' ' || coalesce(${COUNTED_ONLY.includes(name) ? "''" : digest}, '')`;
      return `select ${label} as label, (${rows} from ${identifier(schema)}.${identifier(name)} t) as digest`;
    });
    const digests = await sql.unsafe<{ label: string; digest: string }[]>(queries.join(" union all "));
    return Object.fromEntries(digests.map(({ label, digest }) => [label, digest]));
  } finally {
    await sql.end({ timeout: 1 });
  }
}
