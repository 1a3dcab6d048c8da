/**
 * How far a service has come with another one's feed. The cursor is moved by compare-and-set in the transaction of the effect,
 * and that is the fence: of all who do the same events, whatever has died and however many run, one commits.
 */
import { and, eq } from "drizzle-orm";
import type { Db } from "../db/database.ts";
import { feedCursor } from "./schema.ts";
import type { Place } from "./tail.ts";

/** Somebody else has moved the cursor: what was done beside it must be rolled back, and the cursor loaded again. */
export class CursorMoved extends Error {
  override readonly name = "CursorMoved";
}

/** Where the service is in the feed of `source`; undefined while it has not begun. */
export async function loadCursor(db: Pick<Db, "select">, source: string): Promise<Place | undefined> {
  const place = { epoch: feedCursor.epoch, position: feedCursor.position };
  const [cursor] = await db.select(place).from(feedCursor).where(eq(feedCursor.source, source));
  return cursor;
}

/** Moves it, if it still is at `from` (undefined: if there is none); else throws CursorMoved. */
export async function moveCursor(
  db: Pick<Db, "insert" | "update">,
  source: string,
  from: Place | undefined,
  to: Place,
): Promise<void> {
  const { epoch, position } = to;
  const moved = from
    ? await db.update(feedCursor).set({ epoch, position }).where(isAt(source, from)).returning()
    : await db.insert(feedCursor).values({ source, epoch, position }).onConflictDoNothing().returning();
  if (moved.length === 0) throw new CursorMoved(`somebody else has moved the cursor of ${source}`);
}

function isAt(source: string, { epoch, position }: Place) {
  return and(eq(feedCursor.source, source), eq(feedCursor.epoch, epoch), eq(feedCursor.position, position));
}
