/** What is left of notifications when the newest migration is undone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eq } from "drizzle-orm";
import { connect } from "../../db/connection.ts";
import { openDatabase } from "../../db/database.ts";
import { migrate, migrateDown } from "../../db/migrate.ts";
import { MIGRATIONS_FOLDER } from "../../db/migrations.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { claim } from "./leases.ts";
import { recipients } from "./schema.ts";
import { cancel, newIds, notify, scope } from "./testing.ts";

test("who was cancelled is not in the inbox again after the migration is undone, nor pushed to; who is not, waits", async () => {
  await using database = await testDatabase(["platform", "notification"]);
  const { ownerUrl, runtimeUrl } = database;
  const [waiting, muted, cancelled, leased] = newIds(4) as [string, string, string, string];
  {
    await using opened = openDatabase({ url: runtimeUrl, poolSize: 2, applicationName: "test" });
    const { db } = opened;
    const mistake = await notify(db, [leased]);
    await claim(db, scope, { owner: "sender", limit: 1, leaseSeconds: 30 });
    await cancel(db, mistake);
    await cancel(db, await notify(db, [cancelled]));
    await notify(db, [waiting, muted]);
    const ended = { outcome: "muted", processedAt: new Date() } as const;
    await db.update(recipients).set(ended).where(eq(recipients.userId, muted));
  }
  const options = { ownerUrl, runtimeRole: new URL(runtimeUrl).username, folder: MIGRATIONS_FOLDER };
  assert.match(await migrateDown({ ...options, series: "notification" }), /0002_deliveries/);
  const sql = connect(ownerUrl, { applicationName: "test" });
  try {
    const left = await sql`select user_id, outcome from recipients`;
    assert.deepEqual(
      new Map(left.map((row) => [row.user_id, row.outcome])),
      new Map([
        [waiting, null],
        [muted, "failed"],
      ]),
    );
    await migrate({ ...options, series: ["platform", "notification"] });
    assert.deepEqual((await sql`select user_id from deliveries`).map(Object.values), [[waiting]]);
  } finally {
    await sql.end();
  }
});
