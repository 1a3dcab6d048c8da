/**
 * A database as one SQL text that psql loads, too: the migrations that made its schema, then its rows as COPY writes them, then
 * where its sequences stand. Without pg_dump, which is not among the programs that we have for the newest PostgreSQL; so
 * rights are not in it: `migrate` grants them.
 */
import { once } from "node:events";
import { buffer } from "node:stream/consumers";
import type { Sql } from "postgres";
import { identifier, literal } from "../db/connection.ts";
import { BOOKKEEPING, type Migration } from "../db/migrations.ts";

/** One table's rows: from COPY's own line to the one that ends them, which no row can look like. */
const COPY_BLOCK = /^(COPY .+ FROM stdin);\n((?:.*\n)*?)\\\.\n/gm;

/** The text of a database that these migrations have made. `title` says what it is, in its first line. */
export async function dumpDatabase(sql: Sql, migrations: readonly Migration[], title: string): Promise<string> {
  await sql`begin isolation level repeatable read read only`;
  const tables = await tablesOf(sql);
  const schema = migrations.flatMap(({ file, statements }) => [`-- ${file}`, ...statements.map(terminated)]);
  const names = tables.map(({ name }) => identifier(name)).join(", ");
  const rows: string[] = [];
  for (const table of tables) rows.push(await rowsOf(sql, table));
  const sequences = await sequencesOf(sql);
  await sql`commit`;
  const emptied = `-- What the migrations have put in is among the rows.\nTRUNCATE ${names};`;
  return `${[`-- ${title}`, terminated(BOOKKEEPING), ...schema, emptied, ...rows, ...sequences].join("\n\n")}\n`;
}

/** Loads such a text into an empty database, as its owner. */
export async function loadDump(sql: Sql, text: string): Promise<void> {
  let from = 0;
  for (const { index, 0: block, 1: copy, 2: rows } of text.matchAll(COPY_BLOCK)) {
    await sql.unsafe(text.slice(from, index));
    const stream = await sql.unsafe(copy!).writable();
    stream.end(rows);
    await once(stream, "finish");
    from = index + block.length;
  }
  await sql.unsafe(text.slice(from));
}

function terminated(statement: string): string {
  return statement.endsWith(";") ? statement : `${statement}\n;`;
}

interface Table {
  name: string;
  columns: string[];
}

/** Every table, those that others refer to first; its columns without the generated ones. */
async function tablesOf(sql: Sql): Promise<Table[]> {
  return sql<Table[]>`
    with recursive depths (id, depth) as (
      select oid, 0 from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
      union
      select conrelid, depth + 1 from depths join pg_constraint on confrelid = id and contype = 'f' and conrelid <> id
    )
    select relname as name, array(
        select attname::text from pg_attribute
        where attrelid = id and attnum > 0 and not attisdropped and attgenerated = '' order by attnum
      ) as columns
    from depths join pg_class on oid = id group by id, relname order by max(depth), relname`;
}

async function rowsOf(sql: Sql, { name, columns }: Table): Promise<string> {
  const [table, list] = [identifier(name), columns.map(identifier).join(", ")];
  const stream = await sql.unsafe(`copy (select ${list} from ${table} order by 1) to stdout`).readable();
  return `COPY ${table} (${list}) FROM stdin;\n${await buffer(stream)}\\.`;
}

async function sequencesOf(sql: Sql): Promise<string[]> {
  const sequences = await sql<{ name: string }[]>`
    select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'S' order by relname`;
  const statements = sequences.map(async ({ name }) => {
    const [state] = await sql<{ last: string; called: boolean }[]>`
      select last_value as last, is_called as called from ${sql(name)}`;
    return `SELECT setval(${literal(identifier(name))}, ${state!.last}, ${state!.called});`;
  });
  return Promise.all(statements);
}
