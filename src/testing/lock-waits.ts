import type { Sql } from "postgres";

/**
 * How many connections to this database wait for a lock, or only for one on `table`. pg_locks lists those of the whole
 * server, and databases made from the same template share the ids of their tables.
 */
export async function lockWaits(sql: Pick<Sql, "unsafe">, table: string | null = null): Promise<number> {
  const [found] = await sql.unsafe<{ waits: number }[]>(
    `select count(*)::int as waits from pg_locks join pg_stat_activity using (pid)
     where not granted and datname = current_database() and ($1::text is null or relation = to_regclass($1))`,
    [table],
  );
  return found!.waits;
}
