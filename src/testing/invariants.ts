/**
 * What must hold between the databases of a whole system once all followers have caught up, and inside of each: compared as
 * rows, by the superuser, from whom no policy hides anything.
 */
import type { Sql } from "postgres";
import { connect, withDatabase } from "../db/connection.ts";

/** Each question finds the rows that are wrong, in the database of its service. */
const INSIDE: [service: string, what: string, query: string][] = [
  [
    "auth",
    "live sessions of accounts that may have none",
    "select 1 from sessions s join accounts a on a.id = s.account_id where s.ended_at is null and a.status <> 'active'",
  ],
  [
    "auth",
    "ended sessions whose end was not told",
    `select 1 from sessions s where ended_at is not null and not exists (
       select from feed_outbox o where o.type like '%.SessionEnded' and o.subject = 'account/' || s.account_id
         and position(s.id::text in encode(o.payload, 'escape')) > 0)`,
  ],
  [
    "notification",
    "recipients that are neither processed nor to be pushed, or both",
    `select 1 from recipients r full join deliveries d using (notification_id, user_id)
     where (r.processed_at is null) <> (d.user_id is not null)`,
  ],
  [
    "organization",
    "organizations without an owner",
    `select 1 from organizations o where status <> 'deleted' and not exists (
       select from memberships m where m.organization_id = o.id and m.role = 'owner')`,
  ],
];

/** In every database with a feed, of which nothing was trimmed. */
const OF_FEEDS: [what: string, query: string][] = [
  ["events without a position", "select 1 from feed_outbox where position is null"],
  [
    "gaps between positions",
    `select 1 from (select position - lag(position, 1, 0::bigint) over (order by position) as step from feed_outbox) f
     where step <> 1`,
  ],
  [
    "gaps between versions",
    `select 1 from feed_subject s where version <> (select count(*) from feed_outbox o where o.subject = s.subject)
       or version <> (select max(version) from feed_outbox o where o.subject = s.subject)`,
  ],
  ["parked events", "select 1 from feed_parked"],
];

/** What one service knows of another's rows: two queries whose answers must be the same, one column of text each. */
const BETWEEN: [what: string, truth: [service: string, query: string], copy: [service: string, query: string]][] = [
  [
    "accounts that access knows",
    ["auth", "select id || ' ' || (status = 'deleted') as it from accounts"],
    ["access", "select user_id || ' ' || (deleted_at is not null) as it from known_accounts"],
  ],
  [
    "profiles",
    ["auth", "select id || case status when 'deleted' then ' deleted' else ' ' || email end as it from accounts"],
    [
      "user",
      "select user_id || case when deleted_at is null then ' ' || email else ' deleted' end as it from profiles",
    ],
  ],
  [
    "deleted accounts that notification knows",
    ["auth", "select id::text as it from accounts where status = 'deleted'"],
    ["notification", "select user_id::text as it from deleted_accounts"],
  ],
];

/** Things that belong to people: nothing may be left of those who are deleted, or were never there. */
const OF_PEOPLE: [service: string, what: string, query: string][] = [
  ["access", "assignments of nobody", "select distinct user_id::text as it from assignments"],
  ["organization", "members who are nobody", "select distinct user_id::text as it from memberships"],
  ["notification", "devices of nobody", "select distinct user_id::text as it from devices"],
  ["notification", "inboxes of nobody", "select distinct user_id::text as it from recipients"],
];

/** Connections of the superuser to the database of each service. */
export class ServiceDatabases implements AsyncDisposable {
  readonly #connections: Map<string, Sql>;

  /** `adminUrl`: the superuser's, to any database. `databases`: the name of each service's, by service. */
  constructor(adminUrl: string, databases: ReadonlyMap<string, string>) {
    const open = (database: string) =>
      connect(withDatabase(adminUrl, database), { applicationName: "concierge-invariants" });
    this.#connections = new Map([...databases].map(([service, database]) => [service, open(database)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#connections.values()].map((sql) => sql.end({ timeout: 1 })));
  }

  get services(): string[] {
    return [...this.#connections.keys()];
  }

  /** What a query finds in the database of a service. A parameter is a list of texts. */
  async rows<Row extends object>(service: string, query: string, parameters: string[][] = []): Promise<Row[]> {
    return this.#connections.get(service)!.unsafe<Row[]>(query, parameters as never[]);
  }

  /** The life of each service's feed. */
  async epochs(): Promise<Map<string, string>> {
    const asked = this.services.map(async (service) => {
      const [row] = await this.rows<{ it: string }>(service, "select feed_epoch() as it");
      return [service, row!.it] as const;
    });
    return new Map(await Promise.all(asked));
  }

  /** Whether every follower has done every event of the feed that it follows. */
  async areCaughtUp(): Promise<boolean> {
    const epochs = await this.epochs();
    for (const service of this.services) {
      const cursors = await this.rows<{ source: string; epoch: string; position: string }>(
        service,
        "select source, epoch, position from feed_cursor",
      );
      for (const { source, epoch, position } of cursors) {
        const [head] = await this.rows<{ it: string | null; waits: boolean }>(
          source,
          "select max(position) as it, bool_or(position is null) as waits from feed_outbox",
        );
        if (epoch !== epochs.get(source) || head!.waits || BigInt(position) < BigInt(head!.it ?? 0)) return false;
      }
    }
    return true;
  }

  /** What is wrong: how many rows, by what they are. */
  async findFaults(): Promise<Map<string, number>> {
    const faults = new Map<string, number>();
    const note = (what: string, count: number) => faults.set(what, (faults.get(what) ?? 0) + count);
    for (const [service, what, query] of INSIDE) note(what, (await this.rows(service, query)).length);
    for (const service of this.services) {
      for (const [what, query] of OF_FEEDS) note(what, (await this.rows(service, query)).length);
    }
    for (const [what, truth, copy] of BETWEEN) {
      const [right, known] = [await this.#texts(...truth), await this.#texts(...copy)];
      note(what, missing(right, known) + missing(known, right));
    }
    const people = await this.#texts("auth", "select id::text as it from accounts where status <> 'deleted'");
    for (const [service, what, query] of OF_PEOPLE) note(what, missing(await this.#texts(service, query), people));
    return faults;
  }

  async #texts(service: string, query: string): Promise<Set<string>> {
    return new Set((await this.rows<{ it: string }>(service, query)).map(({ it }) => it));
  }
}

/** How many of these the others lack. */
function missing(these: ReadonlySet<string>, others: ReadonlySet<string>): number {
  return [...these].filter((it) => !others.has(it)).length;
}
