/** Whether the databases hold what the log of a mixed load says was acknowledged: each change once, and its events with it. */
import { setTimeout as delay } from "node:timers/promises";
import type { Sql } from "postgres";
import { connect } from "../db/connection.ts";
import type { Goals } from "./figures.ts";
import type { Lane, LoadReport } from "./mixed-load.ts";
import { type ServiceProcesses, STORING_SERVICES } from "./service-processes.ts";

const CAUGHT_UP_MS = 15_000;
const LOOK_MS = 100;

type Connections = Record<string, Sql>;
/** A number by the id of whom or what it is of. */
type Numbers = Map<string, number>;

/** Adds its goals, each named by the promise of the catalogue that it belongs to. */
export async function judgeStored(
  goals: Goals,
  id: string,
  report: LoadReport,
  { databases }: ServiceProcesses,
): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const sql: Connections = {};
  for (const { name } of STORING_SERVICES) {
    const owner = connect(databases[name]!.ownerUrl, { applicationName: "concierge-prove" });
    opened.defer(() => owner.end({ timeout: 1 }));
    sql[name] = owner;
  }
  await judgeChanges(goals, id, report, sql);
  await judgeNotifications(goals, id, report, sql.notification!);
  goals.atMost(`${id} acknowledged refresh tokens that are worth nothing`, report.refusedRefreshes, 0);
  await judgeFeeds(goals, id, sql);
}

async function judgeChanges(goals: Goals, id: string, { people }: LoadReport, sql: Connections): Promise<void> {
  const names = await numbersOf(sql.user!`select user_id as id, first_name as value from profiles`);
  const branches = await numbersOf(sql.organization!`select id, name as value from branches`);
  const roles = await numbersOf(sql.access!`
    select user_id as id, 1 as value from assignments where organization_id is null`);
  const lost = people.filter(({ userId, branchId, ...lanes }) => {
    const isHeld = roles.has(userId);
    return (
      !isStored(lanes.names, names.get(userId)) ||
      !isStored(lanes.branch, branches.get(branchId)) ||
      !isRight(lanes.role, isHeld)
    );
  });
  const writes = people.flatMap((person) => [person.names, person.branch, person.role]);
  const count = writes.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
  goals.atMost(`${id} people of whom one of ${count} acknowledged changes is lost`, lost.length, 0);
  const events = await numbersOf(sql.user!`
    select substring(subject from '[^/]+$') as id, count(*) as value from feed_outbox
    where type like '%.UserUpdated' group by subject`);
  const uneven = people.filter(({ userId, names: { acknowledged, tried } }) => {
    const published = events.get(userId) ?? 0;
    return published < acknowledged || published > tried;
  });
  goals.atMost(`${id} people whose changes are not each published once`, uneven.length, 0);
}

/** The last number that was acknowledged, or a later one that was only tried. */
function isStored({ last, tried }: Lane, value = Number.NaN): boolean {
  return value >= last && value <= tried;
}

/** Held at odd numbers. What came after the last acknowledged one may have changed it or not. */
function isRight({ last, tried }: Lane, isHeld: boolean): boolean {
  return tried > last || isHeld === (last % 2 === 1);
}

async function judgeNotifications(goals: Goals, id: string, { notifications }: LoadReport, sql: Sql): Promise<void> {
  const rows = await sql<{ id: string; key: string; recipients: number; events: number }[]>`
    select id, idempotency_key as key,
      (select count(*)::integer from recipients where notification_id = n.id) as recipients,
      (select count(*)::integer from feed_outbox o
       where o.subject = 'notification/' || n.id and o.type like '%.NotificationCreated') as events
    from notifications n`;
  const byKey = new Map(rows.map((row) => [row.key, row]));
  const lost = notifications.filter(([key, notificationId]) => byKey.get(key)?.id !== notificationId);
  goals.atMost(`${id} of ${notifications.length} acknowledged notifications lost`, lost.length, 0);
  const uneven = rows.filter(({ recipients, events }) => recipients !== 1 || events !== 1);
  goals.atMost(`${id} notifications stored without a recipient or not published once`, uneven.length, 0);
  goals.atMost(`${id} notifications stored twice`, rows.length - byKey.size, 0);
}

/** Every event has a position, and every follower has come to the end of what it follows. */
async function judgeFeeds(goals: Goals, id: string, sql: Connections): Promise<void> {
  const patience = AbortSignal.timeout(CAUGHT_UP_MS);
  let behind = await followersBehind(sql);
  while (behind.length > 0 && !patience.aborted) {
    await delay(LOOK_MS);
    behind = await followersBehind(sql);
  }
  goals.atMost(`${id} followers that do not catch up`, behind.length, 0, behind.join(", "));
  for (const [name, database] of Object.entries(sql)) {
    const [feed] = await database<{ events: number; unstamped: number; gaps: number; holes: number }[]>`
      select count(*)::integer as events, (count(*) filter (where position is null))::integer as unstamped,
        (coalesce(max(position), 0) - count(position))::integer as gaps,
        (select count(*)::integer from feed_subject s
         where s.version <> (select count(*) from feed_outbox o where o.subject = s.subject)) as holes
      from feed_outbox`;
    const { events, unstamped, gaps, holes } = feed!;
    goals.atMost(`${id} faults in ${name}'s feed of ${events} events`, unstamped + Math.abs(gaps) + holes, 0);
  }
}

async function followersBehind(sql: Connections): Promise<string[]> {
  const heads = new Map<string, number>();
  for (const [name, database] of Object.entries(sql)) {
    const [row] = await database<{ head: number }[]>`
      select coalesce(max(position), 0)::integer as head from feed_outbox`;
    heads.set(name, row!.head);
  }
  const behind: string[] = [];
  for (const [name, database] of Object.entries(sql)) {
    const cursors = await database<{ source: string; position: number; parked: number }[]>`
      select source, position::integer,
        (select count(*)::integer from feed_parked p where p.source = c.source) as parked from feed_cursor c`;
    for (const { source, position, parked } of cursors) {
      const missing = heads.get(source)! - position;
      if (missing > 0 || parked > 0) behind.push(`${name} of ${source}: ${missing} to do, ${parked} parked`);
    }
  }
  return behind;
}

async function numbersOf(rows: PromiseLike<readonly Record<string, unknown>[]>): Promise<Numbers> {
  return new Map((await rows).map(({ id, value }) => [String(id), Number(value)]));
}
