/**
 * `make prove/restore`: the drill of a restore (R-DB-10). Under load a base backup is taken and the log archived; the cluster
 * is killed and restored twice: to the end of the log, and to a point before some acknowledged logouts. Each time
 * `concierge restored` is run; then everything that was acknowledged is looked for, the services' databases are compared, and
 * every token that anybody ever had is tried. QUICK=1: less load.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { NotificationInternalService } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { machineLine } from "../bench/figures.ts";
import { connect } from "../db/connection.ts";
import { ServiceDatabases } from "../testing/invariants.ts";
import { Goals } from "./figures.ts";
import { type Cluster, openArchive } from "./restore-cluster.ts";
import { countLost, countRefreshed, countRefused, judgeSystem, pushedTwice, startTrying } from "./restore-judge.ts";
import { Load } from "./restore-load.ts";
import { openRestoreSystem, type RestoreSystem } from "./restore-system.ts";

const LOAD_MS = process.env.QUICK ? 3_000 : 20_000;
const ENDED_AFTER_POINT = 5;
/** As old as knowledge of sessions may be: until then greeter accepts what was good when auth stopped. */
const FRESH_SECONDS = 5;
const POINT = "before-logouts";
/** Moments of the load: before the restore point was asked for, and after it was there. */
const BEFORE = 0;
const AFTER = 2;

/** What was lost, and what it is restored from. */
interface Loss {
  system: RestoreSystem;
  load: Load;
  /** The life of each feed before. */
  epochs: ReadonlyMap<string, string>;
}

const goals = new Goals("R-DB-10");

async function main(): Promise<number> {
  goals.info(machineLine());
  await using opened = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-restore-"));
  opened.defer(() => rm(folder, { recursive: true, force: true }));
  // A root process runs the server as another account, which must get in.
  await chmod(folder, 0o755);
  const { first, restore } = await openArchive(folder);
  opened.use(first);
  const system = await openRestoreSystem(folder, first.url, opened);
  await system.start();
  const { label, ...loss } = await workUntilLost(system, first);
  await toLatest(loss, await restore(label));
  await toPoint(loss, await restore(label, POINT));
  return goals.missed === 0 ? 0 : 1;
}

/** `label`: of the base backup. */
async function workUntilLost(system: RestoreSystem, cluster: Cluster): Promise<Loss & { label: string }> {
  using connections = new DisposableStack();
  await using databases = new ServiceDatabases(cluster.url, system.databases);
  const epochs = await databases.epochs();
  await using load = new Load({
    authUrl: system.publicUrl("auth"),
    othersUrl: system.publicUrl("others"),
    access: system.asOperator("access", connections).client(AccessInternalService),
    notification: system.asOperator("notification", connections).client(NotificationInternalService),
  });
  await load.begin();
  await delay(LOAD_MS / 3);
  const label = await cluster.backUp();
  await delay(LOAD_MS / 3);
  load.moment += 1;
  await makePoint(cluster);
  load.moment += 1;
  for (let number = 0; number < ENDED_AFTER_POINT; number++) await load.endOneOf(BEFORE);
  await load.startOne();
  await delay(LOAD_MS / 3);
  await cluster.lose();
  await load.end();
  const { sessions, ended, notifications, assigned, deleted } = load;
  goals.info(
    `acknowledged: ${sessions.length} sessions, ${ended.length} of them ended; ${notifications.length} notifications`,
  );
  goals.info(`acknowledged: ${assigned.length} roles, ${deleted.length} deletions`);
  return { system, load, label, epochs };
}

async function makePoint({ url }: Cluster): Promise<void> {
  const sql = connect(url, { applicationName: "concierge-prove" });
  await sql`select pg_create_restore_point(${POINT})`;
  await sql.end({ timeout: 1 });
}

/** To the end of the log: nothing that was acknowledged is lost, and nothing is done twice but what was under way. */
async function toLatest({ system, load, epochs }: Loss, cluster: Cluster): Promise<void> {
  await using _cluster = cluster;
  await using databases = new ServiceDatabases(cluster.url, system.databases);
  const stoppedAt = await system.stop();
  const underLease = await databases.rows("notification", "select 1 from deliveries where lease_owner is not null");
  await system.command("restored", "--nothing-lost");
  const acceptedSeconds = await startTrying(system, load.ended, stoppedAt);
  goals.atMost("latest: last answer to the token of an ended session, in seconds", acceptedSeconds, 0);
  const refused = await countRefused(system, load.live);
  goals.atMost(`latest: of ${load.live.length} live sessions, refused`, refused, 0);
  await judgeSystem("latest", { goals, system, databases, epochs });
  for (const [what, lost] of await countLost(databases, load))
    goals.atMost(`latest: acknowledged ${what}, lost`, lost, 0);
  goals.atMost(
    "latest: pushed twice, where at most what was under way may be",
    await pushedTwice(system),
    underLease.length,
  );
  await cluster.lose();
}

/** To a point before some logouts: no session of before is good any more, whatever the restored rows say. */
async function toPoint({ system, load, epochs }: Loss, cluster: Cluster): Promise<void> {
  await using _cluster = cluster;
  await using databases = new ServiceDatabases(cluster.url, system.databases);
  const stoppedAt = await system.stop();
  const twiceBefore = await pushedTwice(system);
  const endedAfter = load.ended.filter(({ endedAt }) => endedAt === AFTER).map(({ sessionId }) => sessionId);
  const alive = "select 1 from sessions where ended_at is null and id = any ($1::uuid[])";
  const undone = await databases.rows("auth", alive, [endedAfter]);
  goals.atLeast("point: acknowledged logouts that the restore alone has undone", undone.length, ENDED_AFTER_POINT);
  await system.newSigningKey();
  for (const line of (await system.command("restored")).trim().split("\n")) goals.info(line);
  const acceptedSeconds = await startTrying(system, load.sessions, stoppedAt);
  goals.atMost(
    "point: last answer to an old access token, in seconds after auth stopped",
    acceptedSeconds,
    FRESH_SECONDS,
  );
  const refreshed = await countRefreshed(system, load.sessions);
  goals.atMost(`point: of ${load.sessions.length} old refresh tokens, good`, refreshed, 0);
  const again = await load.everybodyAgain();
  goals.atMost(`point: of ${again.length} new sessions, refused`, await countRefused(system, again), 0);
  await judgeSystem("point", { goals, system, databases, epochs });
  goals.atMost("point: pushed twice", (await pushedTwice(system)) - twiceBefore, 0);
  await cluster.lose();
}

process.exitCode = await main();
