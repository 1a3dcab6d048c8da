/**
 * `make prove/feed`: four processes of a service with 200 writers, rollbacks and late commits, two replicas of a follower, and
 * a reader. The processes are killed at every failpoint and at random, and stopped now and then: 100 times (QUICK=1: 20;
 * FULL=1: 1,000; CYCLES=<n>). Nothing may be lost, invented, reordered in its subject, or done twice. SEED=<n> repeats it.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { machineLine } from "../bench/figures.ts";
import { connect } from "../db/connection.ts";
import { startPostgres } from "../dev/postgres.ts";
import type { FailpointName } from "../failpoints.ts";
import { CLUSTER_VARIABLE, testDatabase } from "../testing/cluster.ts";
import { Random } from "../testing/seeded.ts";
import { until } from "../testing/until.ts";
import { judge } from "./feed-checks.ts";
import { FAILPOINTS, Fleet, type Kind, pickFailpoint } from "./feed-processes.ts";
import { FeedReader } from "./feed-reader.ts";
import { makeSourceTables, makeTargetTables, SOURCE } from "./feed-tables.ts";
import { Goals } from "./figures.ts";
import type { Member } from "./members.ts";

const { FULL, QUICK, SEED, CYCLES } = process.env;
const KILLS = Number(CYCLES ?? (FULL ? 1_000 : QUICK ? 20 : 100));
const MAX_LATE_MS = FULL ? 5_000 : 2_000;
const MAX_BETWEEN_MS = 1_500;
const MIN_STOP_MS = 1_000;
const MAX_STOP_MS = 3_000;
/** One kill in so many is followed by a stop. */
const STOPS = 6;
const PACE_MS = 1_000;
const CATCH_UP_MS = 30_000;
/** Four pools of fifty, and those of processes that were killed and whose connections are not gone yet. Only processes of ours
 * are killed, so nothing has to reach a disk. */
const CLUSTER = { max_connections: "400", fsync: "off", synchronous_commit: "off", full_page_writes: "off" };

async function main(): Promise<number> {
  const seed = Number(SEED ?? Math.floor(Math.random() * 2 ** 31));
  const goals = new Goals("feed");
  goals.info(machineLine());
  goals.info(`SEED=${seed}`);
  await using resources = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "concierge-feed-"));
  resources.defer(() => rm(folder, { recursive: true, force: true }));
  // A root process runs the server as another account, which must get in.
  await chmod(folder, 0o755);
  const cluster = resources.use(await startPostgres({ folder: join(folder, "data"), settings: CLUSTER }));
  process.env[CLUSTER_VARIABLE] = cluster.url;
  const source = resources.use(await testDatabase());
  const target = resources.use(await testDatabase());
  await makeSourceTables(source.ownerUrl);
  await makeTargetTables(target.ownerUrl);
  const reader = resources.use(new FeedReader());
  const fleet = resources.use(
    new Fleet({
      ...{ seed, folder, maxLateMs: MAX_LATE_MS, sourceUrl: source.runtimeUrl, targetUrl: target.runtimeUrl },
      onServers: (urls) => reader.clients.use(urls),
    }),
  );
  reader.begin();
  await fleet.start();
  const [sourceSql, targetSql] = [source, target].map(({ ownerUrl }) => open(resources, ownerUrl)) as [Sql, Sql];
  const pacing = setInterval(async () => fleet.pace((await headOf(sourceSql)) - (await cursorOf(targetSql))), PACE_MS);
  resources.defer(() => clearInterval(pacing));
  await new Attack(fleet, new Random(seed), goals, sourceSql).run();
  clearInterval(pacing);
  await fleet.stopWriting();
  await catchUp(goals, sourceSql, targetSql, reader);
  goals.atMost("processes that ended by themselves", sum(fleet.members.map((member) => member.endedByItself)), 0);
  const urls = { sourceUrl: source.ownerUrl, targetUrl: target.ownerUrl };
  await judge(goals, { ...urls, journalFolder: folder, reader });
  return goals.missed === 0 ? 0 : 1;
}

function open(resources: AsyncDisposableStack, url: string): Sql {
  const sql = connect(url, { applicationName: "prove/feed" });
  resources.defer(() => sql.end());
  return sql;
}

/** Kills and stops. */
class Attack {
  readonly #fleet: Fleet;
  readonly #random: Random;
  readonly #goals: Goals;
  readonly #head: () => Promise<number>;
  readonly #isWaiting: () => Promise<boolean>;
  readonly #hits = new Map<FailpointName, number>();
  #kills = 0;
  #stops = 0;
  #standstills = 0;
  /** What ends the whole proof: a process that could not be killed, stopped or started. */
  #problem: unknown;

  constructor(fleet: Fleet, random: Random, goals: Goals, source: Sql) {
    this.#fleet = fleet;
    this.#random = random;
    this.#goals = goals;
    this.#head = () => headOf(source);
    this.#isWaiting = () => isWaiting(source);
  }

  async run(): Promise<void> {
    const startedAt = performance.now();
    const untried = { service: [...FAILPOINTS.service], follower: [...FAILPOINTS.follower] };
    let inTurn: Member<Kind>[] = [];
    for (let cycle = 0; cycle < KILLS; cycle++) {
      if (inTurn.length === 0) inTurn = this.#shuffled();
      const victim = inTurn.pop()!;
      const failpoint = untried[victim.kind].pop() ?? pickFailpoint(this.#random, victim.kind);
      await victim.do(() => Promise.resolve());
      // Others may be next before this one is up again.
      this.#begin(victim, () => this.#kill(victim, failpoint));
      await delay(this.#random.below(MAX_BETWEEN_MS));
      if (this.#random.oneIn(STOPS)) this.#stopOne();
      if (this.#problem !== undefined) throw this.#problem;
      if ((cycle + 1) % 10 === 0) this.#goals.info(`${cycle + 1} cycles, ${await this.#head()} events`);
    }
    await this.#fleet.settled();
    if (this.#problem !== undefined) throw this.#problem;
    this.#goals.info(
      `${KILLS} cycles in ${((performance.now() - startedAt) / 1_000).toFixed(0)} s, ${this.#stops} stops`,
    );
    this.#tell();
  }

  /** All processes: one that was killed just now is seldom the next, which would have to wait until it is up. */
  #shuffled(): Member<Kind>[] {
    const left = [...this.#fleet.members];
    return this.#fleet.members.map(() => left.splice(this.#random.below(left.length), 1)[0]!);
  }

  async #kill(victim: Member<Kind>, failpoint: FailpointName | undefined): Promise<void> {
    const isReached = await victim.kill(failpoint);
    this.#kills++;
    if (isReached) this.#hits.set(failpoint!, (this.#hits.get(failpoint!) ?? 0) + 1);
  }

  /**
   * Others go on: what they commit gets its position. Where nothing was committed, because writers wait for the locks of the one
   * that stands, the feed has nothing to do.
   */
  #stopOne(): void {
    const kind: Kind = this.#random.oneIn(3) ? "follower" : "service";
    const failpoint = pickFailpoint(this.#random, kind);
    const victim = this.#random.pick(this.#fleet.of(kind));
    const stopMs = MIN_STOP_MS + this.#random.below(MAX_STOP_MS - MIN_STOP_MS);
    const during = async () => {
      const before = await this.#head();
      await delay(stopMs);
      if ((await this.#head()) === before && (await this.#isWaiting())) this.#standstills++;
      this.#stops++;
    };
    this.#begin(victim, () => victim.stopFor(failpoint, during));
  }

  #begin(victim: Member<Kind>, work: () => Promise<void>): void {
    victim.do(work).catch((error: unknown) => {
      this.#problem ??= error;
    });
  }

  #tell(): void {
    this.#goals.atLeast("kills", this.#kills, KILLS);
    for (const failpoint of Object.values(FAILPOINTS).flat()) {
      this.#goals.atLeast(`kills at ${failpoint}`, this.#hits.get(failpoint) ?? 0, 1);
    }
    this.#goals.atMost("R-OBX-14 stops in which everybody stood still", this.#standstills, 0);
  }
}

async function headOf(sql: Sql): Promise<number> {
  const [row] = await sql<{ head: number }[]>`select coalesce(max(position), 0)::integer as head from feed_outbox`;
  return row!.head;
}

/** Whether a committed event has no position yet, for longer than it takes to look for it. */
async function isWaiting(sql: Sql): Promise<boolean> {
  const found = await sql`
    select 1 from feed_outbox where position is null and created_at < clock_timestamp() - interval '600 ms' limit 1`;
  return found.length > 0;
}

/** How far the followers have come. */
async function cursorOf(sql: Sql): Promise<number> {
  const [row] = await sql<{ position: number }[]>`
    select coalesce(max(position), 0)::integer as position from feed_cursor where source = ${SOURCE}`;
  return row!.position;
}

/** Waits until everybody has everything; how long that took is a goal. */
async function catchUp(goals: Goals, source: Sql, target: Sql, reader: FeedReader): Promise<void> {
  const startedAt = performance.now();
  const isDone = async () => {
    const [pending] = await source`select from feed_outbox where position is null limit 1`;
    const head = await headOf(source);
    return !pending && (await cursorOf(target)) === head && reader.position === BigInt(head);
  };
  const isCaughtUp = await until("everybody has everything", isDone, CATCH_UP_MS).catch(() => false);
  const tookMs = isCaughtUp ? performance.now() - startedAt : Number.POSITIVE_INFINITY;
  goals.atMost("everybody has everything after ms", tookMs, CATCH_UP_MS);
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

process.exitCode = await main();
