/** What tests of migrations share: a database, and migrations of a made-up service over it. */
import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { ExitCode, StartupError } from "../errors.ts";
import { testCluster } from "../testing/cluster.ts";
import { connect } from "./connection.ts";
import { checkSchema, migrate } from "./migrate.ts";
import { MIGRATIONS_FOLDER } from "./migrations.ts";
import { dropDatabase, provisionDatabase } from "./provision.ts";

/** An empty provisioned database and a folder with the real platform series and a made-up service `shop`. */
export async function openShop(t: TestContext, shop: Record<string, string> = {}) {
  const { adminUrl } = await testCluster();
  const database = `migrate_${crypto.randomUUID()}`;
  const [ownerRole, runtimeRole] = [`${database}_o`, `${database}_r`];
  const passwords = { ownerPassword: crypto.randomUUID(), runtimePassword: crypto.randomUUID() };
  const urls = await provisionDatabase(adminUrl, { database, ownerRole, runtimeRole, ...passwords });
  const folder = await mkdtemp(join(tmpdir(), "concierge-migrations-"));
  await cp(join(MIGRATIONS_FOLDER, "platform"), join(folder, "platform"), { recursive: true });
  await mkdir(join(folder, "shop"));
  const write = (name: string, text: string) => writeFile(join(folder, "shop", name), text);
  for (const [name, text] of Object.entries(shop)) await write(name, text);
  const admin = connect(adminUrl, { applicationName: "test" });
  const owner = connect(urls.ownerUrl, { applicationName: "test" });
  t.after(async () => {
    await owner.end();
    await dropDatabase(adminUrl, database);
    await admin.unsafe(`drop role "${ownerRole}"; drop role "${runtimeRole}"`);
    await admin.end();
    await rm(folder, { recursive: true, force: true });
  });
  const series = ["platform", "shop"];
  const options = { ownerUrl: urls.ownerUrl, runtimeRole, series, folder };
  const check = () => checkSchema({ runtimeUrl: urls.runtimeUrl, series, folder });
  return { ...urls, adminUrl, database, runtimeRole, folder, write, owner, admin, options, check };
}

export const SHOP = {
  "0000_item.sql": `CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
--> statement-breakpoint
CREATE INDEX item_name ON item (name);`,
  "0001_price.sql": "ALTER TABLE item ADD COLUMN price bigint NOT NULL DEFAULT 0;",
  "0001_price.down.sql": "ALTER TABLE item DROP COLUMN price;",
};

/** The files that a run applies. */
export async function applied(options: Parameters<typeof migrate>[0]): Promise<string[]> {
  return (await migrate(options)).pending.map(({ file }) => file);
}

/** A StartupError for the operator's eyes: exit code 78 and the file's name. */
export function stops(...texts: string[]) {
  return (error: unknown) => {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, ExitCode.config);
    for (const text of texts) assert.ok(error.message.includes(text), error.message);
    return true;
  };
}
