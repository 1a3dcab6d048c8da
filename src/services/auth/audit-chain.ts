/**
 * The chain that makes the audit log tamper-evident: each entry gets a hash over the one before it, soon after its commit. Not in
 * the transaction of the entry: all logins would wait for each other. Nobody can change, remove or slip in an entry later
 * without making all hashes after it anew, which whoever wrote down the newest one notices.
 */
import { sql } from "drizzle-orm";
import type { Db } from "../../db/database.ts";
import type { Job } from "../../jobs.ts";
import { auditChain, auditLog } from "./schema.ts";

const CHAIN_EVERY_MS = 5_000;
const TRIM_EVERY_MS = 60_000;
const AT_ONCE = 1_000;
const CHECKED_AT_ONCE = 5_000;
const CHECKED_IN_ONE_CALL = 100_000;

export interface AuditCheck {
  /** Entries whose hash was computed again. */
  checked: number;
  /** The first place that does not fit; 0 if all fit. */
  brokenPosition: bigint;
  /** Where to go on; 0 at the end. */
  nextPosition: bigint;
  lastPosition: bigint;
  /** Hexadecimal. */
  lastHash: string;
  /** Entries that are older than ten minutes and not in the chain; counted at the end. */
  unchained: number;
}

/** The jobs that chain what was written, and delete what is older than `keepDays`. */
export function auditJobs(db: Db, keepDays: number): Job[] {
  return [
    {
      name: "chain audit log",
      everyMs: CHAIN_EVERY_MS,
      async run(signal) {
        while (!signal.aborted && (await chainAuditLog(db)) > 0);
      },
    },
    {
      name: "trim audit log",
      everyMs: TRIM_EVERY_MS,
      async run(signal) {
        while (!signal.aborted && (await trimAuditLog(db, keepDays)) > 0);
      },
    },
  ];
}

/** Chains entries that are not chained yet, at most 1,000; returns how many. */
export async function chainAuditLog(db: Db): Promise<number> {
  const [row] = await db.execute<{ added: number }>(sql`select audit_chain_extend(${AT_ONCE}::integer) as added`);
  return row!.added;
}

/** Deletes the oldest entries, at most 1,000; returns how many. */
export async function trimAuditLog(db: Db, keepDays: number): Promise<number> {
  const [row] = await db.execute<{ deleted: number }>(
    sql`select audit_trim(${keepDays}::integer, ${AT_ONCE}::integer) as deleted`,
  );
  return row!.deleted;
}

/** Checks the chain from a position on; 0 is the beginning. */
export async function verifyAuditLog(db: Db, position: bigint): Promise<AuditCheck> {
  const check = { checked: 0, brokenPosition: 0n, lastPosition: position, lastHash: "", unchained: 0 };
  while (check.checked < CHECKED_IN_ONE_CALL) {
    const page = await checkLinks(db, check.lastPosition);
    check.checked += page.checked;
    check.brokenPosition = BigInt(page.broken ?? 0);
    check.lastPosition = BigInt(page.last ?? check.lastPosition);
    check.lastHash = page.hash ?? check.lastHash;
    if (check.brokenPosition > 0n) return { ...check, nextPosition: 0n };
    if (page.links < CHECKED_AT_ONCE) return { ...check, nextPosition: 0n, unchained: await countUnchained(db) };
  }
  return { ...check, nextPosition: check.lastPosition };
}

type Links = {
  links: number;
  checked: number;
  broken: string | null;
  last: string | null;
  hash: string | null;
};

/**
 * Links from a position on. The first of them is taken as it is: it was the last one of the page before, or the one that
 * retention has left; only the very first of all has nothing before it.
 */
async function checkLinks(db: Db, position: bigint): Promise<Links> {
  const [links] = await db.execute<Links>(sql`
    with links as (
      select position, audit_id, hash, lag(position) over (order by position) as before,
        case when position = 1 then ''::bytea else lag(hash) over (order by position) end as previous
      from ${auditChain} where position >= ${position} order by position limit ${CHECKED_AT_ONCE}
    ), judged as (
      select links.*, position > ${position} and previous is not null as is_checked,
        links.hash = audit_link(previous, entry) and position = coalesce(before, 0) + 1 and entry.id is not null as fits
      from links left join ${auditLog} entry on entry.id = links.audit_id
    )
    select count(*)::integer as links, (count(*) filter (where is_checked))::integer as checked,
      min(position) filter (where is_checked and fits is not true) as broken, max(position) as last,
      (array_agg(encode(hash, 'hex') order by position desc))[1] as hash
    from judged`);
  return links!;
}

async function countUnchained(db: Db): Promise<number> {
  const [row] = await db.execute<{ unchained: number }>(sql`
    select count(*)::integer as unchained from ${auditLog} entry
    where at < concierge_now() - interval '10 minutes'
      and not exists (select from ${auditChain} where audit_id = entry.id)`);
  return row!.unchained;
}
