/** What a database holds, as lines of text that can be compared: its schema with all rights, and its rows. */
import type { Sql } from "postgres";
import { identifier } from "../db/connection.ts";

/** Everything PostgreSQL's catalogue says about the public schema; column order, rights, bookkeeping included. */
export async function describeSchema(sql: Sql): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    select format('%s %s %s %s', c.relkind, c.relname, c.relacl, c.relrowsecurity) as line from pg_class c
      where relnamespace = 'public'::regnamespace
    union all select format('column %s.%s %s %s %s %s %s', c.relname, a.attname, row_number() over
        (partition by c.oid order by a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
        pg_get_expr(d.adbin, d.adrelid))
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped
    union all select format('index %s', pg_get_indexdef(indexrelid)) from pg_index i join pg_class c on c.oid = i.indexrelid
      where c.relnamespace = 'public'::regnamespace
    union all select format('constraint %s %s', conname, pg_get_constraintdef(oid)) from pg_constraint
      where connamespace = 'public'::regnamespace
    union all select format('trigger %s', pg_get_triggerdef(t.oid)) from pg_trigger t join pg_class c on c.oid = t.tgrelid
      where c.relnamespace = 'public'::regnamespace and not t.tgisinternal
    union all select format('policy %s %s %s %s %s %s', tablename, policyname, roles, cmd, qual, with_check)
      from pg_policies where schemaname = 'public'
    union all select format('function %s %s', pg_get_functiondef(oid), proacl) from pg_proc
      where pronamespace = 'public'::regnamespace
    union all select format('type %s', typname) from pg_type where typnamespace = 'public'::regnamespace
    union all select format('migration %s %s %s %s', series, name, checksum, is_expansion) from concierge_migration
    order by 1`;
  return rows.map(({ line }) => line);
}

/** Every row of every table in the public schema, "table {json}"; of the bookkeeping without its times. */
export async function describeData(sql: Sql): Promise<string[]> {
  const tables = await sql<{ name: string }[]>`select tablename as name from pg_tables where schemaname = 'public'`;
  const lines = tables.map(async ({ name }) => {
    const rows = await sql.unsafe<{ row: string }[]>(
      `select (to_jsonb(t) - 'applied_at')::text as row from ${identifier(name)} t`,
    );
    return rows.map(({ row }) => `${name} ${row}`);
  });
  return (await Promise.all(lines)).flat().sort();
}
