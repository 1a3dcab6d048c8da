/**
 * What became of pushes: the stand-in's ledger, which has what was accepted, against what authors were answered and what
 * notification's tables say. A push is a notification for a device; each has to be there, once unless its sender was killed.
 */
import type { Sql } from "postgres";
import { quantile } from "../bench/figures.ts";
import { type LedgerEntry, readLedger } from "../dev/push-stand-in-ledger.ts";
import { until } from "../testing/until.ts";
import type { Goals } from "./figures.ts";
import type { Author } from "./push-author.ts";
import { type PushSetting, tokenOf } from "./push-setting.ts";

/** Longer than several leases, of senders that were killed one after another with the same. */
const PATIENCE_MS = 120_000;

/** What the stand-in accepted, in order, by push: see pushOf(). */
export type Accepted = Map<string, LedgerEntry[]>;

export interface Pushes {
  accepted: Accepted;
  /** From storing the notification to the first acceptance; the oldest first. */
  latenciesMs: number[];
  /** Second and later copies. */
  copies: number;
}

/** Names a push: a notification for a person's only device. */
export function pushOf(notificationId: string, userId: string): string {
  return `${notificationId} ${tokenOf(userId)}`;
}

/** Waits until nothing is left to push, and then holds everything against everything. */
export async function judge(
  goals: Goals,
  what: string,
  author: Author,
  { sql, push }: Pick<PushSetting, "sql" | "push">,
): Promise<Pushes> {
  const isDone = async () => (await sql`select from deliveries limit 1`).length === 0;
  const isDrained = await until("nothing is left to push", isDone, PATIENCE_MS).catch(() => false);
  goals.atLeast(`${what}: everything is told of`, isDrained ? 1 : 0, 1);
  const accepted = await readAccepted(push.ledgerFile);
  const entries = [...accepted.values()].flat();
  const expected = [...author.created].flatMap(([id, userIds]) => userIds.map((userId) => pushOf(id, userId)));
  goals.info(
    `${what}: ${author.created.size} notifications, ${expected.length} recipients, ${author.repeated} calls made again`,
  );
  goals.atMost(`${what}: lost`, expected.filter((one) => !accepted.has(one)).length, 0);
  const known = new Set(expected);
  goals.atMost(`${what}: pushed to nobody's device`, [...accepted.keys()].filter((one) => !known.has(one)).length, 0);
  goals.atMost(`${what}: pushes that differ in what makes devices show them once`, entries.filter(isUnlike).length, 0);
  goals.atMost(`${what}: shown twice by devices`, shownBy(entries) - accepted.size, 0);
  await judgeTables(goals, what, author, { sql, accepted });
  return { accepted, latenciesMs: await latenciesOf(sql, author, accepted), copies: entries.length - accepted.size };
}

/** Reads the stand-in's ledger. */
export async function readAccepted(ledgerFile: string): Promise<Accepted> {
  const entries = await readLedger(ledgerFile);
  return Map.groupBy(entries, ({ message, token }) => `${identityOf(message)} ${token}`);
}

function identityOf(message: LedgerEntry["message"]): string {
  return (message as { data: { notification_id: string } }).data.notification_id;
}

interface Identified {
  android: { collapse_key: string; notification: { tag: string } };
  apns: { headers: Record<string, string> };
  webpush: { notification: { tag: string } };
}

/** What each platform replaces an earlier copy by. */
function tagsOf(message: LedgerEntry["message"]): string[] {
  const { android, apns, webpush } = message as unknown as Identified;
  return [android.collapse_key, android.notification.tag, apns.headers["apns-collapse-id"]!, webpush.notification.tag];
}

function isUnlike({ message }: LedgerEntry): boolean {
  return tagsOf(message).some((tag) => tag !== identityOf(message));
}

/** How many notifications all devices show, each one once by its tags. */
function shownBy(entries: LedgerEntry[]): number {
  return new Set(entries.map(({ token, message }) => `${token} ${tagsOf(message).join(" ")}`)).size;
}

async function judgeTables(
  goals: Goals,
  what: string,
  author: Author,
  { sql, accepted }: { sql: Sql; accepted: Accepted },
): Promise<void> {
  const rows = await sql<{ id: string; userId: string; outcome: string | null }[]>`
    select notification_id as id, user_id as "userId", outcome from recipients`;
  const unlike = rows.filter(({ id, userId, outcome }) => (outcome === "sent") !== accepted.has(pushOf(id, userId)));
  goals.atMost(`${what}: recipients of whom table and ledger differ`, unlike.length, 0);
  const [stored] = await sql<{ count: number }[]>`select count(*)::int from notifications`;
  goals.atMost(`${what}: notifications stored without an author's wish`, stored!.count - author.created.size, 0);
}

/** Milliseconds from storing each notification of an author to the first acceptance for each recipient; the oldest first. */
export async function latenciesOf(sql: Sql, { created }: Author, accepted: Accepted): Promise<number[]> {
  const rows = await sql<{ id: string; createdAt: Date }[]>`
    select id, created_at as "createdAt" from notifications order by id`;
  return rows.flatMap(({ id, createdAt }) => {
    const userIds = created.get(id) ?? [];
    const first = userIds.flatMap((userId) => accepted.get(pushOf(id, userId))?.at(0) ?? []);
    return first.map(({ time }) => Date.parse(time) - createdAt.getTime());
  });
}

/** How long it took, in words. */
export function latencyText(latenciesMs: number[]): string {
  const [p50, p99, max] = [0.5, 0.99, 1].map((share) => quantile(latenciesMs, share).toFixed(0));
  return `created to accepted p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`;
}
