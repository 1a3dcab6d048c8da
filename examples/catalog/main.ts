/** Starts the catalog with what the environment says, and stops it gracefully. */
import { readFile } from "node:fs/promises";
import { createAuthClient } from "concierge/client";
import { openDatabase } from "./database.ts";
import { startCatalog } from "./server.ts";

function variable(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

await using opened = new AsyncDisposableStack();
const { db } = opened.use(await openDatabase(variable("CATALOG_DATABASE_URL")));
const auth = opened.use(
  createAuthClient({
    url: variable("CONCIERGE_URL"),
    issuer: variable("CONCIERGE_ISSUER"),
    keys: await readFile(variable("CONCIERGE_KEYS_FILE"), "utf8"),
    log: console,
  }),
);
const port = Number(process.env.CATALOG_PORT ?? 8087);
const { url } = opened.use(await startCatalog({ auth, db, port }));
console.info(`catalog listens at ${url}`);

const { promise: asked, resolve } = Promise.withResolvers<void>();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
await asked;
