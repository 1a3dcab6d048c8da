/**
 * The writers of `make prove/feed`: each changes a row, states the facts, emits events about subjects that all of them share,
 * and commits; or rolls back, or commits late. What became of a transaction goes into a journal that survives the process.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { eq, sql } from "drizzle-orm";
import { type Db, type Tx, transaction } from "../db/database.ts";
import { sqlStateOf } from "../db/errors.ts";
import { emit, event } from "../feed/emit.ts";
import { Random } from "../testing/seeded.ts";
import { commonMs } from "./fate.ts";
import { BUSINESS_ROWS, business, fact, SUBJECTS } from "./feed-tables.ts";

export interface WritersOptions {
  seed: number;
  /** Which process it is, and how often that was started before. */
  slot: number;
  life: number;
  journalFile: string;
  /** The longest that a late commit is held after emit(). */
  maxLateMs: number;
  /** The longest pause between two transactions of a writer: the followers have to keep up on the same processors. */
  maxPauseMs: number;
}

export const WRITERS = 50;
const MAX_LIVES = 10_000;
const ROLLED_BACK_PERCENT = 5;
const LATE_PERCENT = 1;
const MIN_LATE_MS = 20;

/** Thrown to roll a transaction back. */
class RolledBack extends Error {}

export interface Writers {
  /** Sets the longest pause. */
  pace(maxPauseMs: number): void;
  /** Resolves once no transaction is open. */
  stop(): Promise<void>;
}

/** Starts them. */
export function startWriters(db: Db, options: WritersOptions): Writers {
  const journal = openSync(options.journalFile, "a");
  const end = new AbortController();
  const settings = { ...options };
  const writers = Array.from({ length: WRITERS }, (_, number) => write(db, number, settings, journal, end.signal));
  return {
    pace(maxPauseMs) {
      settings.maxPauseMs = maxPauseMs;
    },
    async stop() {
      end.abort();
      await Promise.all(writers);
      closeSync(journal);
    },
  };
}

/** One writer: transactions until the end. A line of the journal is "c <name> <ms>", "r <name>" or "f <name> <why>". */
async function write(
  db: Db,
  number: number,
  settings: WritersOptions,
  journal: number,
  signal: AbortSignal,
): Promise<void> {
  const { seed, slot, life, maxLateMs } = settings;
  const random = new Random(seed, (slot * MAX_LIVES + life) * WRITERS + number);
  for (let count = 0; !signal.aborted; count++) {
    const name = `${slot}.${life}.${number}.${count}`;
    const percent = random.below(100);
    const subjects = Array.from({ length: 1 + random.below(3) }, () => `subject/${random.below(SUBJECTS)}`);
    const businessId = 1 + random.below(BUSINESS_ROWS);
    // Many are a little late, few are very late.
    const lateMs = MIN_LATE_MS * (maxLateMs / MIN_LATE_MS) ** (random.below(1_000) / 1_000);
    try {
      await transaction(db, async (tx) => {
        await change(tx, name, businessId, subjects);
        if (percent < ROLLED_BACK_PERCENT) throw new RolledBack();
        if (percent < ROLLED_BACK_PERCENT + LATE_PERCENT) await delay(lateMs);
      });
      writeSync(journal, `c ${name} ${commonMs()}\n`);
    } catch (error) {
      writeSync(journal, error instanceof RolledBack ? `r ${name}\n` : `f ${name} ${whatFailed(error)}\n`);
    }
    await delay(random.below(settings.maxPauseMs), undefined, { signal }).catch(() => {});
  }
}

async function change(tx: Tx, name: string, businessId: number, subjects: string[]): Promise<void> {
  const raised = { changes: sql`${business.changes} + 1` };
  await tx.update(business).set(raised).where(eq(business.id, businessId));
  await tx.insert(fact).values(subjects.map((_, place) => ({ transaction: name, place })));
  await emit(
    tx,
    subjects.map((subject, place) => event(StringValueSchema, subject, { value: `${name}/${place}` })),
  );
}

function whatFailed(error: unknown): string {
  return sqlStateOf(error) ?? (error instanceof Error ? error.message.split("\n")[0]! : String(error));
}
