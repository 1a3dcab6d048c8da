/** Deleted accounts against a real database: their roles are gone, and nobody gives them one again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { asc, sql } from "drizzle-orm";
import { AccountKind } from "../../../gen/concierge/auth/v1/account_kind_pb.ts";
import { openDatabase, transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import { feedOutbox } from "../../feed/schema.ts";
import type { CallScope } from "../../rpc/call.ts";
import { testDatabase } from "../../testing/cluster.ts";
import { until } from "../../testing/until.ts";
import { lockAccount, rememberAccount, requireAccount } from "./accounts.ts";
import { give } from "./assignments.ts";
import { change } from "./changes.ts";
import { removeAccount } from "./departures.ts";
import { assignments, knownAccounts, roles } from "./schema.ts";
import type { AccessContext } from "./service.ts";

const signal = new AbortController().signal;
const caller = { kind: "operator", name: "ann", callee: "access" };
const scope = { caller, signal, timeoutMs: () => undefined } as unknown as CallScope;
const roleId = crypto.randomUUID();
const unknown = { message: "[not_found] there is no such user" };

/** With the role "support". Auth is not there: these accounts need it no more once they are known. */
async function openAccess() {
  await using opened = new AsyncDisposableStack();
  const { runtimeUrl, jobUrl } = opened.use(await testDatabase(["platform", "access"]));
  const { db } = opened.use(openDatabase({ url: runtimeUrl, poolSize: 4, applicationName: "test" }));
  const { db: jobDb } = opened.use(openDatabase({ url: jobUrl, poolSize: 2, applicationName: "test" }));
  await jobDb.insert(roles).values({ id: roleId, name: "support", description: "", permissions: [] });
  const context = { db } as AccessContext;
  const resources = opened.move();
  return {
    db,
    context,
    assign: (userId: string) =>
      give(context, scope, { userId, organizationId: "", branchId: "", what: { role: "support" } }),
    register: (userId: string) => transaction(db, (tx) => rememberAccount(tx, { userId, kind: AccountKind.USER })),
    remove: (userId: string) => transaction(jobDb, async (tx) => emit(tx, await removeAccount(tx, userId))),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

test("a deleted account has no role and gets none, in whatever order its events come", async () => {
  await using access = await openAccess();
  const [first, second] = [crypto.randomUUID(), crypto.randomUUID()];
  await access.register(first);
  await access.assign(first);
  await access.remove(first);
  await access.remove(second);
  for (const userId of [first, second]) {
    await access.register(userId);
    await assert.rejects(requireAccount(access.context, { signal }, userId), unknown);
    await assert.rejects(access.assign(userId), unknown);
    await access.remove(userId);
  }
  assert.equal(await access.db.$count(assignments), 0);
  const known = await access.db.select().from(knownAccounts);
  assert.ok(known.length === 2 && known.every(({ deletedAt }) => deletedAt));
  const events = await access.db.select({ type: feedOutbox.type }).from(feedOutbox).orderBy(asc(feedOutbox.id));
  const types = events.map(({ type }) => type.split(".").at(-1));
  assert.deepEqual(types, ["RoleAssigned", "RoleUnassigned", "RoleUnassigned", "RoleUnassigned"]);
});

test("a deletion waits for a role that is being given, and takes it", async () => {
  await using access = await openAccess();
  const { db, register, remove } = access;
  const userId = crypto.randomUUID();
  await register(userId);
  const locked = Promise.withResolvers<void>();
  const given = Promise.withResolvers<void>();
  const giving = change(db, scope, "", async (tx) => {
    await lockAccount(tx, { userId, kind: "user" });
    await tx.insert(assignments).values({ id: userId, userId, roleId, assignedBy: "ann" });
    locked.resolve();
    await given.promise;
    return { result: undefined, events: [] };
  });
  await locked.promise;
  const removing = remove(userId);
  await until("the deletion waits", async () => {
    const waiting = await db.execute(sql`
      select 1 from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database()`);
    return waiting.length === 1;
  });
  given.resolve();
  await Promise.all([giving, removing]);
  assert.equal(await db.$count(assignments), 0);
});

test("a role that is given while the account is being deleted does not stay", async () => {
  await using access = await openAccess();
  for (let round = 0; round < 10; round++) {
    const userId = crypto.randomUUID();
    await access.register(userId);
    await Promise.all([access.assign(userId).catch(() => {}), access.remove(userId)]);
    assert.equal(await access.db.$count(assignments), 0, `round ${round}`);
  }
});
