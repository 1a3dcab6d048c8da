/**
 * What `make prove/feed` finds in the end: the facts are what was committed, and the feed, the effects, the reader and the
 * journals are held to them.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { quantile } from "../bench/figures.ts";
import { connect } from "../db/connection.ts";
import type { CompleteRead, FeedReader } from "./feed-reader.ts";
import { SOURCE } from "./feed-tables.ts";
import type { Goals } from "./figures.ts";

/** What `complete` leaves out: events that were committed so shortly before the question. */
const COMPLETE_LAG_MS = 250;

/** One event as the outbox has it, in the order of positions; `key` is its fact. */
interface Row {
  key: string;
  id: string;
  subject: string;
  version: number;
  position: number | null;
}

interface Journal {
  /** When the answer to the commit had come, by transaction. */
  committedAt: Map<string, number>;
  rolledBack: Set<string>;
  /** How many failed of what. */
  failures: Map<string, number>;
}

export interface Evidence {
  sourceUrl: string;
  targetUrl: string;
  journalFolder: string;
  reader: FeedReader;
}

export async function judge(goals: Goals, { sourceUrl, targetUrl, journalFolder, reader }: Evidence): Promise<void> {
  const journal = readJournals(journalFolder);
  const outbox = await judgeSource(goals, sourceUrl, journal);
  await judgeEffects(goals, targetUrl, outbox);
  judgeReader(goals, reader, outbox, journal);
}

async function judgeSource(goals: Goals, url: string, journal: Journal): Promise<Row[]> {
  const sql = connect(url, { applicationName: "prove/feed" });
  try {
    const outbox = await sql<Row[]>`
      select convert_from(substring(payload from 3), 'UTF8') as key, ${SOURCE} || '/' || id as id, subject,
        version::integer as version, position::integer as position
      from feed_outbox o order by o.position nulls last, o.id`;
    const facts = new Set(
      (await sql<{ key: string }[]>`select transaction || '/' || place as key from fact`).map(keyOf),
    );
    const [changes] = await sql<{ changes: number }[]>`select sum(changes)::integer as changes from business`;
    const keys = new Set(outbox.map(keyOf));
    const committed = new Set([...facts].map(transactionOf));
    goals.info(
      `${committed.size} transactions with ${facts.size} events committed, ${journal.rolledBack.size} rolled back`,
    );
    for (const [why, count] of journal.failures) goals.info(`${count} transactions failed: ${why}`);
    goals.atLeast("R-OBX-13 transactions committed", committed.size, 1);
    goals.atMost("changes without their facts", Math.abs(changes!.changes - committed.size), 0);
    goals.atMost(
      "R-OBX-01 committed and acknowledged, and lost",
      countMissing(journal.committedAt.keys(), committed),
      0,
    );
    goals.atMost("R-OBX-01 committed without an event (lost)", countMissing(facts, keys), 0);
    goals.atMost("R-OBX-10 events without a commit (phantoms)", countMissing(keys, facts), 0);
    const undone = outbox.filter(({ key }) => journal.rolledBack.has(transactionOf(key)));
    goals.atMost("R-OBX-10 events of what was rolled back", undone.length, 0);
    goals.atMost(
      "R-OBX-13 events without a position",
      count(outbox, ({ position }) => position === null),
      0,
    );
    goals.atMost(
      "R-OBX-13 gaps and doubles in positions",
      count(outbox, (row, index) => row.position !== index + 1),
      0,
    );
    goals.atMost("R-OBX-17 out of order in their subjects", countReordered(outbox), 0);
    return outbox;
  } finally {
    await sql.end();
  }
}

async function judgeEffects(goals: Goals, url: string, outbox: Row[]): Promise<void> {
  const sql = connect(url, { applicationName: "prove/feed" });
  try {
    const effects = await sql<Omit<Row, "key" | "position">[]>`
      select event_id as id, subject, version::integer as version from effect order by number`;
    const [counts] = await sql<{ counted: number; parked: number }[]>`
      select (select coalesce(sum(effects), 0)::integer from effect_count) as counted,
        (select count(*)::integer from feed_parked) as parked`;
    const done = new Set(effects.map(({ id }) => id));
    const ids = new Set(outbox.map(({ id }) => id));
    goals.atMost("R-OBX-11 effects doubled", effects.length - done.size, 0);
    goals.atMost("R-OBX-11 effects missing", countMissing(ids, done), 0);
    goals.atMost("R-OBX-11 effects of nothing", countMissing(done, ids), 0);
    goals.atMost("R-OBX-11 effects counted otherwise", Math.abs(counts!.counted - outbox.length), 0);
    goals.atMost("R-OBX-11 effects out of order in their subjects", countReordered(effects), 0);
    goals.atMost("R-OBX-11 events parked", counts!.parked, 0);
  } finally {
    await sql.end();
  }
}

function judgeReader(goals: Goals, reader: FeedReader, outbox: Row[], journal: Journal): void {
  const { ids, seenAt, outOfPlace, reordered, lostCursors, failures, completeReads } = reader;
  goals.atMost("reader: events missing", Math.max(0, outbox.length - ids.length), 0);
  goals.atMost(
    "reader: events not those of the outbox",
    count(ids, (id, index) => id !== outbox[index]?.id),
    0,
  );
  goals.atMost("reader: positions out of place", outOfPlace, 0);
  goals.atMost("reader: out of order in their subjects", reordered, 0);
  goals.atMost("reader: cursors lost", lostCursors, 0);
  goals.atLeast("R-OBX-14 reads that said they were complete", completeReads.length, 1);
  goals.atMost("R-OBX-14 reads that said so and were not", countFalselyComplete(completeReads, outbox, journal), 0);
  const delays = outbox.flatMap(({ key }) => {
    const [committed, seen] = [journal.committedAt.get(transactionOf(key)), seenAt.get(key)];
    return committed === undefined || seen === undefined ? [] : [Math.max(0, seen - committed)];
  });
  const [p50, p99, worst] = [0.5, 0.99, 1].map((share) => quantile(delays, share).toFixed(1));
  goals.info(`commit to reader p50 ${p50} ms, p99 ${p99} ms, worst ${worst} ms, while processes were killed`);
  for (const [why, times] of failures) goals.info(`${times} reads failed: ${why}`);
}

/** A commit that was answered 250 ms before a Read was sent lies before where that Read, if it was complete, came to. */
function countFalselyComplete(reads: CompleteRead[], outbox: Row[], { committedAt }: Journal): number {
  const commits = outbox
    .flatMap(({ key, position }) => {
      const at = committedAt.get(transactionOf(key));
      return at === undefined ? [] : [{ at, position: position ?? Number.POSITIVE_INFINITY }];
    })
    .sort((a, b) => a.at - b.at);
  let [next, furthest, wrong] = [0, 0, 0];
  for (const { sentAt, position } of reads) {
    for (; next < commits.length && commits[next]!.at < sentAt - COMPLETE_LAG_MS; next++) {
      furthest = Math.max(furthest, commits[next]!.position);
    }
    if (furthest > position) wrong++;
  }
  return wrong;
}

/** In the order given, each subject's versions are 1, 2, 3. */
function countReordered(rows: readonly { subject: string; version: number }[]): number {
  const versions = new Map<string, number>();
  return count(rows, ({ subject, version }) => {
    const expected = (versions.get(subject) ?? 0) + 1;
    versions.set(subject, version);
    return version !== expected;
  });
}

/** A line is one write, so that even a killed process leaves whole lines. */
function readJournals(folder: string): Journal {
  const journal: Journal = { committedAt: new Map(), rolledBack: new Set(), failures: new Map() };
  for (const file of readdirSync(folder).filter((name) => name.startsWith("journal-"))) {
    for (const line of readFileSync(join(folder, file), "utf8").split("\n")) {
      const [kind, name, ...rest] = line.split(" ");
      const text = rest.join(" ");
      if (kind === "c") journal.committedAt.set(name!, Number(text));
      if (kind === "r") journal.rolledBack.add(name!);
      if (kind === "f") journal.failures.set(text, (journal.failures.get(text) ?? 0) + 1);
    }
  }
  return journal;
}

function keyOf({ key }: { key: string }): string {
  return key;
}

function transactionOf(key: string): string {
  return key.split("/")[0]!;
}

function countMissing(wanted: Iterable<string>, found: ReadonlySet<string>): number {
  return count([...wanted], (one) => !found.has(one));
}

function count<T>(items: readonly T[], isMeant: (item: T, index: number) => boolean): number {
  return items.filter(isMeant).length;
}
