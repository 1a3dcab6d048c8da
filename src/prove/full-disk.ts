/**
 * What of `make prove/postgres` is about a full disk (R-DB-07): PostgreSQL's data lie on a small file system of their own, its
 * log (WAL) beside it, as a server that keeps its log apart has it. Only root can make a file system: for others this is short.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, open, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { ownUid, serverAccount } from "../dev/postgres-account.ts";
import { type DatabaseServer, makeFolder, openDatabaseServer } from "./database-server.ts";
import type { Goals } from "./figures.ts";
import { openLoadedSystem } from "./loaded-system.ts";
import { CALL_NAMES, type LoadReport, type LoggedCall } from "./mixed-load.ts";
import { callsOf, countOutcomes, failuresOf, type Outage, recoveryMs } from "./outages.ts";
import { nowMs } from "./revocation-clock.ts";
import { hasEnded, type ServiceProcesses } from "./service-processes.ts";
import { judgeStored } from "./stored-writes.ts";

const DISK_MEGABYTES = 400;
const CALLS_PER_SECOND = Number(process.env.FULL_DISK_CALLS ?? 100);
const BEFORE_MS = 3_000;
const FULL_MS = 10_000;
const AFTER_MS = 5_000;
const BOUND_MS = 2_000;
const READS: readonly string[] = [
  "auth VerifyToken",
  "access CheckPermission",
  "user GetUser",
  "notification CountUnread",
];
const REFUSED = /^db_out_of_resources_total\{.*\} (\d+)$/gm;

const execute = promisify(execFile);

export async function proveFullDisk(goals: Goals): Promise<void> {
  if ((await ownUid()) !== 0) {
    goals.atLeast("R-DB-07 disks filled (making one takes root)", 0, 1);
    return;
  }
  await using opened = new AsyncDisposableStack();
  const disk = await mountDisk(opened);
  const server = opened.use(await openDatabaseServer(disk));
  await moveLogTo(await makeFolder(opened), server);
  const { processes, load } = await openLoadedSystem(CALLS_PER_SECOND, server, opened);
  await delay(BEFORE_MS);
  const outage = await fillFor(FULL_MS, disk);
  await delay(AFTER_MS);
  const report = await load.call<LoadReport>("end");
  judge(goals, report, outage);
  goals.atLeast("R-DB-07 writes that the metric says were refused", await refusedBy(processes), 1);
  goals.atMost(
    "R-DB-07 processes that have ended",
    processes.running.filter(({ process: child }) => hasEnded(child)).length,
    0,
  );
  await judgeStored(goals, "R-DB-07", report, processes);
}

async function mountDisk(opened: AsyncDisposableStack): Promise<string> {
  const folder = await makeFolder(opened);
  await execute("mount", ["-t", "tmpfs", "-o", `size=${DISK_MEGABYTES}m,mode=755`, "concierge-prove", folder]);
  opened.defer(async () => {
    await execute("umount", [folder]);
  });
  return folder;
}

async function moveLogTo(folder: string, server: DatabaseServer): Promise<void> {
  const [log, moved] = [join(server.dataFolder, "pg_wal"), join(folder, "pg_wal")];
  const account = await serverAccount();
  await server.stop();
  await mkdir(moved);
  await cp(log, moved, { recursive: true });
  await rm(log, { recursive: true });
  await symlink(moved, log);
  await execute("chown", ["-R", `${account!.uid}:${account!.gid}`, moved, log]);
  await execute("chmod", ["0700", moved]);
  await server.start();
}

/** Writes until there is no room left, and makes room again after a while. */
async function fillFor(fullMs: number, disk: string): Promise<Outage> {
  const file = join(disk, "filler");
  const filler = await open(file, "w");
  const downMs = nowMs();
  try {
    const megabyte = Buffer.alloc(1024 * 1024);
    for (;;) await filler.write(megabyte);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    await filler.close();
  }
  await delay(fullMs);
  await rm(file);
  return { downMs, upMs: nowMs() };
}

function judge(goals: Goals, { calls }: LoadReport, outage: Outage): void {
  const failed = failuresOf(calls);
  goals.info(
    `${calls.length} calls; before the disk was full failed: ${countOutcomes(sentIn(failed, 0, outage.downMs))}`,
  );
  goals.info(`then: ${countOutcomes(sentIn(failed, outage.downMs, outage.upMs))}`);
  goals.info(`afterwards: ${countOutcomes(sentIn(failed, outage.upMs))}`);
  const reads = failed.filter(({ name }) => READS.includes(name));
  goals.atLeast("R-DB-07 writes refused", failed.length - reads.length, 1);
  goals.atMost("R-DB-07 reads and verifications refused", reads.length, 0, countOutcomes(reads));
  const others = failed.filter(({ outcome }) => !outcome.startsWith("Unavailable "));
  goals.atMost("R-DB-07 failures other than UNAVAILABLE", others.length, 0, countOutcomes(others));
  const recovered = CALL_NAMES.map((name) => recoveryMs(callsOf(calls, name), outage));
  goals.atMost("R-DB-07 away for longer than the space, ms", Math.max(...recovered), BOUND_MS);
}

function sentIn(calls: LoggedCall[], fromMs: number, untilMs = Number.POSITIVE_INFINITY): LoggedCall[] {
  return calls.filter(({ sentMs }) => sentMs >= fromMs && sentMs < untilMs);
}

async function refusedBy({ running }: ServiceProcesses): Promise<number> {
  const texts = await Promise.all(
    running.map(async ({ internalUrl }) => (await fetch(`${internalUrl}/metrics`)).text()),
  );
  return texts.flatMap((text) => [...text.matchAll(REFUSED)]).reduce((sum, [, count]) => sum + Number(count), 0);
}
