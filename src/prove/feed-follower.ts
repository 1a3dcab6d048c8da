/** Worker: one replica of a service that follows the feed. Its effect writes a row and raises a counter, in its own database. */
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { sql } from "drizzle-orm";
import { systemClock } from "../clock.ts";
import { openDatabase, type Tx } from "../db/database.ts";
import { on, startFollower } from "../feed/follower.ts";
import { createLogger } from "../log.ts";
import { fateCommands } from "./fate.ts";
import { FeedClients } from "./feed-client.ts";
import { effect, effectCount, FOLLOWER, SOURCE } from "./feed-tables.ts";
import { answerCommands } from "./workers.ts";

const POOL_SIZE = 4;
const client = new FeedClients("after a failure");

function start({ databaseUrl: url, urls }: { databaseUrl: string; urls: string[] }): void {
  client.use(urls);
  startFollower({
    follower: { source: SOURCE, effects: [on(StringValueSchema, (tx, _, event) => writeDown(tx, event))] },
    service: FOLLOWER,
    db: openDatabase({ url, poolSize: POOL_SIZE, applicationName: "prove/feed follower" }).db,
    client,
    clock: systemClock,
    log: createLogger({ level: "warn", mode: "development" }),
  });
}

async function writeDown(tx: Tx, event: { id: string; subject: string; version: bigint }): Promise<void> {
  const { id: eventId, subject, version } = event;
  // One statement: the proof's own work shall not be what the follower is busy with.
  const written = tx.$with("written").as(tx.insert(effect).values({ eventId, subject, version }).returning());
  await tx
    .with(written)
    .insert(effectCount)
    .values({ subject, effects: 1 })
    .onConflictDoUpdate({ target: effectCount.subject, set: { effects: sql`${effectCount.effects} + 1` } });
}

answerCommands({ ...fateCommands, start, servers: ({ urls }: { urls: string[] }) => client.use(urls) });
