/**
 * What one process of a service should do at a time, by turns: whoever holds the lease does it. It keeps several from doing the
 * same work, and is no lock: a holder that stood still goes on for a moment beside the next one, which must do no harm.
 */
import { and, eq, sql } from "drizzle-orm";
import type { Db } from "../db/database.ts";
import { feedLease } from "./schema.ts";

/** Takes the lease, or keeps it for another `ms`; false while somebody else has it. */
export async function holdLease(db: Pick<Db, "insert">, name: string, holder: string, ms: number): Promise<boolean> {
  const until = sql`concierge_now() + make_interval(secs => ${ms / 1_000}::double precision)`;
  const held = await db
    .insert(feedLease)
    .values({ name, holder, until })
    .onConflictDoUpdate({
      target: feedLease.name,
      set: { holder, until },
      setWhere: sql`${feedLease.holder} = ${holder} or ${feedLease.until} < concierge_now()`,
    })
    .returning({ holder: feedLease.holder });
  return held.length > 0;
}

/** Lets others have it at once, if this one holds it. */
export async function releaseLease(db: Pick<Db, "delete">, name: string, holder: string): Promise<void> {
  await db.delete(feedLease).where(and(eq(feedLease.name, name), eq(feedLease.holder, holder)));
}
