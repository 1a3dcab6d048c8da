/**
 * `concierge restored`: what each database needs that was restored, before its service runs again. Readers of its feed begin
 * anew, and where changes were lost, whatever may have been revoked since is taken back.
 */
import { sql } from "drizzle-orm";
import { type Db, openDatabase } from "../db/database.ts";
import { startError } from "../db/migrate.ts";
import { ExitCode, StartupError } from "../errors.ts";
import { databaseConfigurationOf, servicesWithDatabase } from "./configuration.ts";
import type { Host } from "./host.ts";
import { named, roleOf } from "./migrate.ts";

/** Ending millions of sessions takes its time. */
const STATEMENT_TIMEOUT_MS = 600_000;

interface RestoredSettings {
  /** The restored databases have every change that was ever acknowledged. */
  nothingLost: boolean;
}

/** Service by service; all of those with a database for an empty list. Changes nothing of one that still runs. */
export async function restored(host: Host, names: string[], { nothingLost }: RestoredSettings): Promise<void> {
  const definitions = servicesWithDatabase(names);
  for (const [index, target] of databaseConfigurationOf(host.env, definitions).entries()) {
    const { name, ownerUrl: url, runtimeUrl, jobUrl, values } = target;
    await using database = openDatabase({
      ...{ url, poolSize: 1, applicationName: "concierge-restored", statementTimeoutMs: STATEMENT_TIMEOUT_MS },
    });
    const roles = [runtimeUrl, jobUrl].flatMap((each) => (each === undefined ? [] : [roleOf(each)]));
    const { afterLoss } = definitions[index]!;
    const revoke = nothingLost || !afterLoss ? undefined : (db: Db) => afterLoss(db, values);
    const done = await named(name, beginAnew(database.db, roles, revoke));
    for (const line of done) host.print(`${name}: ${line}\n`);
  }
}

async function beginAnew(db: Db, roles: string[], revoke?: (db: Db) => Promise<string[]>): Promise<string[]> {
  try {
    await refuseIfRunning(db, roles);
    const revoked = (await revoke?.(db)) ?? [];
    // Last: whoever runs this again after a fault does both. Not the next number, because two restores of one copy may have the
    // same timeline, and must not have the same epoch.
    await db.execute(sql`update feed_state set restores = 1 + floor(random() * 2147483646)::integer`);
    return [...revoked, "readers of its feed begin anew"];
  } catch (error) {
    throw startError(error);
  }
}

/** By who is connected: a process that runs would go on serving while its sessions are being ended. */
async function refuseIfRunning(db: Db, roles: string[]): Promise<void> {
  const list = sql.join(
    roles.map((role) => sql`${role}`),
    sql`, `,
  );
  const [found] = await db.execute<{ connections: number }>(sql`
    select count(*)::integer as connections from pg_stat_activity
    where datname = current_database() and usename in (${list})`);
  if (found!.connections === 0) return;
  throw new StartupError(
    `${found!.connections} connections of ${roles.join(" or ")} are open: stop the service, and the pooler if there is one`,
    ExitCode.unavailable,
  );
}
