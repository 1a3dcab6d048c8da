/** What PostgreSQL says of the feed's functions: pages touched, time, and where the time of a stamping call goes. */
import type { Sql } from "postgres";

export interface Cost {
  /** Pages of 8 KiB that were looked at, in memory or not. */
  pages: number;
  ms: number;
}

interface Explained {
  "Execution Time": number;
  Plan: { "Shared Hit Blocks": number; "Shared Read Blocks": number };
}

/** Runs a statement that is a constant of ours, and says what it cost; what functions do in it is counted. */
export async function costOf(sql: Sql, statement: string): Promise<Cost> {
  const [row] = await sql.unsafe<{ "QUERY PLAN": [Explained] }[]>(
    `explain (analyze, buffers, format json) ${statement}`,
  );
  const [{ Plan: plan, "Execution Time": ms }] = row!["QUERY PLAN"];
  return { pages: plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], ms };
}

/** The statements of a stamping call, one by one, with their plans; nothing of it stays. */
export async function explainStamp(sql: Sql, most: number): Promise<string[]> {
  const lines: string[] = [];
  const [state] = await sql<{ floor: string }[]>`select floor::text from feed_state`;
  const waiting = `select id from feed_outbox where position is null and id > ${state!.floor} order by id`;
  const chosen = `${waiting} limit ${most}`;
  // Each of them is stamped by a statement of its own: this is one.
  const update = `update feed_outbox set position = 1000000000 where id = (${waiting} limit 1)`;
  await sql`begin`;
  for (const statement of [chosen, "select max(position) from feed_outbox", update]) {
    const rows = await sql.unsafe<{ "QUERY PLAN": string }[]>(`explain (analyze, buffers, costs off) ${statement}`);
    lines.push(`explained: ${statement.replaceAll(/\s+/g, " ").trim()}`);
    lines.push(...rows.map((row) => `  ${row["QUERY PLAN"]}`));
  }
  await sql`rollback`;
  return lines;
}
