/** Transactions as services do them: a business row, and beside it nothing, a row of a plain outbox, or an event. */
import { setTimeout as delay } from "node:timers/promises";
import { bigint, pgTable, text } from "drizzle-orm/pg-core";
import { UserCreatedSchema } from "../../gen/concierge/user/v1/user_events_pb.ts";
import { bytea } from "../db/columns.ts";
import { type Db, transaction } from "../db/database.ts";
import { emit, event } from "../feed/emit.ts";
import { machineMs } from "./feed-database.ts";

/** What a transaction does beside its business row. */
export type Beside = "nothing" | "outbox" | "event";

export interface PacedWrites {
  /** How long each transaction took. */
  tookMs: number[];
  /** When each commit was known, by subject. */
  committedAt: [subject: string, atMs: number][];
  failures: number;
}

/** The tables of feed-database.ts. */
const benchRow = pgTable("bench_row", { body: text("body").notNull() });
const benchOutbox = pgTable("bench_outbox", {
  type: text("type").notNull(),
  subject: text("subject").notNull(),
  version: bigint("version", { mode: "bigint" }).notNull(),
  payload: bytea("payload").notNull(),
});

const SUBJECTS = 10_000;
const BODY = "a business row of some length, as they are";

/** So many transactions at once, for so long. Returns how many were committed in a second. */
export async function saturate(db: Db, beside: Beside, writers: number, durationMs: number): Promise<number> {
  const start = machineMs();
  let count = 0;
  const write = async () => {
    while (machineMs() - start < durationMs) {
      // Spread over the subjects, so that hardly two at once have the same.
      const subject = (count++ * 7_919) % SUBJECTS;
      await writeOne(db, beside, `user/${subject}`);
    }
  };
  await Promise.all(Array.from({ length: writers }, write));
  return (count * 1_000) / (machineMs() - start);
}

/** Events at a steady rate, each about a subject of its own, whatever becomes of those before. */
export async function writeSteadily(
  db: Db,
  { perSecond, durationMs, prefix }: { perSecond: number; durationMs: number; prefix: string },
): Promise<PacedWrites> {
  const writes: PacedWrites = { tookMs: [], committedAt: [], failures: 0 };
  const running: Promise<void>[] = [];
  const start = machineMs();
  const total = Math.round((perSecond * durationMs) / 1_000);
  for (let index = 0; index < total; index++) {
    const due = start + (index * 1_000) / perSecond;
    if (due > machineMs()) await delay(due - machineMs());
    running.push(writeTimed(db, `${prefix}/${index}`, writes));
  }
  await Promise.all(running);
  return writes;
}

async function writeTimed(db: Db, subject: string, writes: PacedWrites): Promise<void> {
  const began = machineMs();
  try {
    await writeOne(db, "event", subject);
    const committed = machineMs();
    writes.tookMs.push(committed - began);
    writes.committedAt.push([subject, committed]);
  } catch {
    writes.failures++;
  }
}

async function writeOne(db: Db, beside: Beside, subject: string): Promise<void> {
  const { type, payload } = event(UserCreatedSchema, subject, {
    userId: "01a201b3-90ff-776a-9068-4bdb04fac021",
    email: "somebody@example.com",
    firstName: "Some",
    lastName: "Body",
    locale: "en",
  });
  await transaction(db, async (tx) => {
    await tx.insert(benchRow).values({ body: BODY });
    if (beside === "event") await emit(tx, [{ type, subject, payload }]);
    if (beside === "outbox") await tx.insert(benchOutbox).values({ type, subject, version: 1n, payload });
  });
}
