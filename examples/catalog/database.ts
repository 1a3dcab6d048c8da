/** The catalog's own database: connections, and its migrations, each applied once whoever starts first. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres from "postgres";

export type Database = PostgresJsDatabase;

const MIGRATIONS = join(import.meta.dirname, "migrations");

export interface OpenDatabase extends AsyncDisposable {
  db: Database;
}

export async function openDatabase(url: string): Promise<OpenDatabase> {
  const sql = postgres(url, { max: 10, onnotice: () => {} });
  try {
    await migrate(sql);
  } catch (error) {
    await sql.end();
    throw error;
  }
  return { db: drizzle(sql), [Symbol.asyncDispose]: () => sql.end({ timeout: 5 }) };
}

async function migrate(sql: postgres.Sql): Promise<void> {
  await sql.begin(async (tx) => {
    // Processes that start together take turns.
    await tx`SELECT pg_advisory_xact_lock(hashtext('catalog migrations'))`;
    await tx`CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY)`;
    const applied = new Set((await tx`SELECT name FROM migrations`).map(({ name }) => name));
    for (const name of (await readdir(MIGRATIONS)).sort()) {
      if (applied.has(name)) continue;
      await tx.unsafe(await readFile(join(MIGRATIONS, name), "utf8"));
      await tx`INSERT INTO migrations (name) VALUES (${name})`;
    }
  });
}
