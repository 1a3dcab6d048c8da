/** Topics that a person does not want to be pushed: at most 100, whoever asks at the same time. They stay in the inbox. */
import { and, asc, eq, sql } from "drizzle-orm";
import { type Db, transaction } from "../../db/database.ts";
import { Code, fail } from "../../errors.ts";
import type { CallScope } from "../../rpc/call.ts";
import { lockAccount } from "./accounts.ts";
import { mutedTopics } from "./schema.ts";

const MAX_MUTED_TOPICS = 100;

interface Mute {
  userId: string;
  topic: string;
}

/** Mutes it, once or again. UNAUTHENTICATED, FAILED_PRECONDITION / TOO_MANY_MUTED_TOPICS. */
export async function muteTopic(db: Db, { signal }: Pick<CallScope, "signal">, { userId, topic }: Mute): Promise<void> {
  await transaction(
    db,
    async (tx) => {
      await lockAccount(tx, userId);
      // One at a time, so that each one counts all others.
      await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`muted topics of ${userId}`}, 0))`);
      await tx.insert(mutedTopics).values({ userId, topic }).onConflictDoNothing();
      if ((await tx.$count(mutedTopics, eq(mutedTopics.userId, userId))) <= MAX_MUTED_TOPICS) return;
      throw fail(Code.FailedPrecondition, "TOO_MANY_MUTED_TOPICS", `at most ${MAX_MUTED_TOPICS} topics can be muted`);
    },
    { signal },
  );
}

/** Has it pushed again; of a topic that is not muted nothing changes. */
export async function unmuteTopic(db: Db, { userId, topic }: Mute): Promise<void> {
  await db.delete(mutedTopics).where(and(eq(mutedTopics.userId, userId), eq(mutedTopics.topic, topic)));
}

/** By name. */
export async function listMutedTopics(db: Db, userId: string): Promise<string[]> {
  const isOwn = eq(mutedTopics.userId, userId);
  const found = await db.select().from(mutedTopics).where(isOwn).orderBy(asc(mutedTopics.topic));
  return found.map(({ topic }) => topic);
}
