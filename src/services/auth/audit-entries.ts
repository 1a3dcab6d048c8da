/** Reading the audit log: whole entries for those who run the installation, and a person's own without the names of those. */
import { and, desc, eq, gte, lt, type SQL } from "drizzle-orm";
import { type Db, during } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope, Person } from "../../rpc/call.ts";
import { auditLog } from "./schema.ts";

export type AuditRow = typeof auditLog.$inferSelect;

/** An entry as the account's owner sees it. */
export interface SecurityEvent extends Omit<AuditRow, "actor" | "requestId"> {
  actor: "anybody" | "owner" | "administrator";
}

interface PageOf {
  /** 0 for the usual one. */
  pageSize: number;
  /** Empty for the first page. */
  pageToken: string;
}

const LARGEST_ID = 2n ** 63n - 1n;

/** One page of those that fit, the newest first. Empty fields fit everything. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listAuditEntries(
  db: Db,
  { userId, action, since, ...page }: PageOf & { userId: string; action: string; since: Date | undefined },
): Promise<{ entries: AuditRow[]; nextPageToken: string }> {
  const which = and(
    userId === "" ? undefined : eq(auditLog.accountId, userId),
    action === "" ? undefined : eq(auditLog.action, action),
    since && gte(auditLog.at, since),
  );
  return readPage(db, which, page, { usual: 100, largest: 1_000 });
}

/** One page of what happened to the caller's account, the newest first. INVALID_ARGUMENT / INVALID_PAGE_TOKEN. */
export async function listSecurityEvents(
  db: Db,
  { signal }: CallScope,
  { userId }: Person,
  page: PageOf,
): Promise<{ events: SecurityEvent[]; nextPageToken: string }> {
  const own = eq(auditLog.accountId, userId);
  const { entries, nextPageToken } = await readPage(during(db, signal), own, page, { usual: 50, largest: 100 });
  return { events: entries.map((entry) => asSeenBy(userId, entry)), nextPageToken };
}

async function readPage(
  db: Db,
  which: SQL | undefined,
  { pageSize, pageToken }: PageOf,
  sizes: { usual: number; largest: number },
): Promise<{ entries: AuditRow[]; nextPageToken: string }> {
  const size = Math.min(pageSize || sizes.usual, sizes.largest);
  const isAfter = pageToken === "" ? undefined : lt(auditLog.id, readPageToken(pageToken));
  const found = await db
    .select()
    .from(auditLog)
    .where(and(which, isAfter))
    .orderBy(desc(auditLog.id))
    .limit(size + 1);
  const entries = found.slice(0, size);
  return { entries, nextPageToken: found.length > size ? pageTokenOf(entries.at(-1)!.id) : "" };
}

function asSeenBy(userId: string, { actor, ...entry }: AuditRow): SecurityEvent {
  if (actor === "anonymous") return { ...entry, actor: "anybody" };
  if (actor === `user ${userId}`) return { ...entry, actor: "owner" };
  return { ...entry, actor: "administrator", address: "", userAgent: "" };
}

function pageTokenOf(lastId: bigint): string {
  return Buffer.from(String(lastId)).toString("base64url");
}

function readPageToken(token: string): bigint {
  const text = Buffer.from(token, "base64url").toString();
  const id = /^[1-9]\d{0,18}$/.test(text) ? BigInt(text) : 0n;
  if (id > 0n && id <= LARGEST_ID && pageTokenOf(id) === token) return id;
  throw fail(Code.InvalidArgument, "INVALID_PAGE_TOKEN", "the page token is not one that this method gave");
}
