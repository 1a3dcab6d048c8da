/**
 * `make release`: writes what is kept of a release for as long as somebody may upgrade from it. Its contract goes to
 * proto/released, for `buf breaking`; a dump of each service's database, and who may log in there, to released/. What is
 * there already is never written again.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../clock.ts";
import { connect } from "../db/connection.ts";
import { MIGRATIONS_FOLDER, readMigrations } from "../db/migrations.ts";
import { services } from "../services.ts";
import type { TestUser } from "../testing/people.ts";
import { startTestSystem, type TestSystem } from "../testing/system.ts";
import { createSigningKeys } from "../token/key-making.ts";
import { dumpDatabase } from "./dump.ts";
import { type Life, live, liveOn } from "./life.ts";
import { CONTRACTS, type People, RELEASES } from "./released.ts";

/** Of feed_stamp(), in drizzle/platform. */
const STAMP_LOCK = 1664510468;

process.exitCode = await main();

async function main(): Promise<number> {
  const { version } = JSON.parse(await readFile("package.json", "utf8")) as { version: string };
  const [contract, folder] = [join(CONTRACTS, `v${version}.binpb`), join(RELEASES, `v${version}`)];
  if (existsSync(contract) || existsSync(folder)) {
    process.stderr.write(`${version} is released already, and what was released never changes: raise the version\n`);
    return 1;
  }
  const unfinished = `${folder}.new`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  await writeDatabases(unfinished, version);
  await mkdir(CONTRACTS, { recursive: true });
  execFileSync("buf", ["build", "proto", "--exclude-source-info", "--output", contract]);
  await rename(unfinished, folder);
  process.stdout.write(`${contract}\n${folder}\n`);
  return 0;
}

/** Lives a life, and dumps each database at a moment at which its newest events have no position yet. */
async function writeDatabases(folder: string, version: string): Promise<void> {
  const [{ keys }, other] = [await createSigningKeys("ES256"), await createSigningKeys("ES256")];
  await using system = await startTestSystem({
    clock: { ...systemClock, advance: () => {} },
    signingKeys: { keys: [...keys, ...other.keys] },
  });
  const life = await live(system, (line) => process.stderr.write(`${line}\n`));
  await using _paused = await pauseStamps(system);
  const newcomer = await liveOn(system, life);
  for (const { name } of services.filter(({ hasDatabase }) => hasDatabase)) {
    await using closing = new AsyncDisposableStack();
    const sql = connect(system.database(name).ownerUrl, { applicationName: "concierge-release" });
    closing.defer(() => sql.end());
    const migrations = await readMigrations(MIGRATIONS_FOLDER, ["platform", name]);
    const title = `The database of ${name} in release ${version}, with a life made up for it. Never edited.`;
    await writeFile(join(folder, `${name}.sql`), await dumpDatabase(sql, migrations, title));
  }
  await writeFile(join(folder, "people.json"), `${JSON.stringify(peopleOf(life, newcomer), undefined, 2)}\n`);
}

/** Their passwords were made for the dump, and are good for nothing else. */
function peopleOf({ ann, ben, organizationId }: Life, newcomer: TestUser): People {
  const loginOf = ({ email, password }: TestUser) => ({ email, password });
  return { organizationId, owner: loginOf(ann), member: loginOf(ben), newcomer: loginOf(newcomer) };
}

/** Holds, in every database, the lock under which events get their positions. */
async function pauseStamps(system: TestSystem): Promise<AsyncDisposable> {
  await using held = new AsyncDisposableStack();
  for (const { name } of services.filter(({ hasDatabase }) => hasDatabase)) {
    const sql = connect(system.database(name).ownerUrl, { applicationName: "concierge-release" });
    held.defer(() => sql.end());
    await sql`select pg_advisory_lock(${STAMP_LOCK})`;
  }
  return held.move();
}
