/**
 * Which service tokens were used already: kept in the callee's database until they expire, so a token is spent at every
 * replica and across restarts.
 */
import { lt, sql } from "drizzle-orm";
import { pgTable, text } from "drizzle-orm/pg-core";
import { now, time } from "../db/columns.ts";
import type { Db } from "../db/database.ts";
import { TOLERANCE_SECONDS } from "./compact.ts";

/** Made by drizzle/platform in every service's database. */
const spentTokens = pgTable("spent_token", {
  jti: text("jti").primaryKey(),
  expiresAt: time("expires_at").notNull(),
});

/** Remembers a token's id until nobody accepts the token any more. False when it was spent before. */
export async function spendToken(db: Db, tokenId: string, expiresAtSeconds: number): Promise<boolean> {
  const expiresAt = new Date((expiresAtSeconds + TOLERANCE_SECONDS) * 1000);
  const rows = await db
    .insert(spentTokens)
    .values({ jti: tokenId, expiresAt })
    .onConflictDoNothing()
    .returning({ jti: spentTokens.jti });
  return rows.length === 1;
}

/** Forgets tokens that expired a minute ago or earlier, by the database's clock. */
export async function sweepSpentTokens(db: Db): Promise<void> {
  await db.delete(spentTokens).where(lt(spentTokens.expiresAt, sql`${now} - interval '1 minute'`));
}
