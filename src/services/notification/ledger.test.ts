/** What always holds of the tables, whatever runs at once: work is left exactly for those who are not processed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { type Db, transaction } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { emit } from "../../feed/emit.ts";
import { removeAccount } from "./accounts.ts";
import { redriveDeadLetters } from "./dead-letters.ts";
import { claim, extendLease, listUnprocessed } from "./leases.ts";
import { markProcessed, type Result } from "./results.ts";
import { newIds, openTestDatabase, scope, store } from "./testing.ts";

const RESULTS: Result[] = ["sent", "no_device", "failed", "retry", "not_tried"];

const pick = <T>(values: readonly T[]) => values[Math.floor(Math.random() * values.length)]!;

/** Takes some, prolongs it, and tells of it in any order and every way, twice. */
async function send(db: Db, owner: string) {
  const { lease, notifications } = await claim(db, scope, { owner, limit: 20, leaseSeconds: 30 });
  if (!lease) return;
  await extendLease(db, scope, { owner, token: lease.token, leaseSeconds: 30 });
  const results = notifications.flatMap(({ notificationId, userIds }) =>
    userIds.map((userId) => ({ notificationId, userId, result: pick(RESULTS), code: "", retryAfterSeconds: 0 })),
  );
  const told = { owner, leaseToken: lease.token, notificationIds: [], deadDeviceIds: [], maxTries: 1 };
  await markProcessed(db, scope, { ...told, results: results.sort(() => Math.random() - 0.5) });
  await markProcessed(db, scope, { ...told, results });
}

/** Recipients of whom the tables do not say one and the same. */
function contradictions(db: Db) {
  return db.execute(sql`
    select r.*, d.claims, l.code as dead_code from recipients r
    left join deliveries d on d.notification_id = r.notification_id and d.user_id = r.user_id
    left join dead_letters l on l.notification_id = r.notification_id and l.user_id = r.user_id
    where (r.processed_at is null) <> (d.user_id is not null)
      or (r.processed_at is null) <> (r.outcome is null)
      or (l.user_id is not null) <> (r.outcome is not distinct from 'failed'
        and r.user_id not in (select user_id from deleted_accounts))`);
}

test("while some send, list, redrive and delete accounts at once, a recipient is processed exactly when no work is left", async () => {
  await using database = await openTestDatabase();
  const { db } = database;
  const people = newIds(40);
  const organizations = newIds(3);
  const leaving = people.slice(30);
  const steps = [
    () => send(db, "one"),
    () => send(db, "two"),
    () => listUnprocessed(db, scope, { owner: "three", limit: 1 }),
    () => redriveDeadLetters(db, scope, { notificationId: "", code: "" }),
    async () => {
      const userId = leaving.pop();
      if (userId) await transaction(db, async (tx) => void (await emit(tx, await removeAccount(tx, userId))));
    },
  ];
  for (let round = 0; round < 10; round++) {
    const living = people.slice(0, 30).concat(leaving);
    const draft = () => ({ organizationId: pick(organizations), userIds: living, ttlSeconds: pick([0, 3_600]) });
    await store(db, [draft(), draft()]);
    const ended = await Promise.allSettled([...steps, ...steps].map((step) => step()));
    const failures = ended.flatMap((each) => (each.status === "rejected" ? [each.reason] : []));
    // Whoever is deleted, or free again and taken by another one, is not under the lease any more.
    assert.deepEqual(
      failures.filter((error) => reasonOf(error) !== "LEASE_LOST"),
      [],
    );
    assert.deepEqual([...(await contradictions(db))], []);
  }
});
