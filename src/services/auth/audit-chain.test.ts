/** The audit log cannot be changed by the service, and not unnoticed by its owner. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import type { Sql } from "postgres";
import { AuthInternalService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { type Database, openDatabase } from "../../db/database.ts";
import { setDatabaseOffset, type TestDatabase, testDatabase } from "../../testing/cluster.ts";
import { startTestService } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { chainAuditLog, trimAuditLog, verifyAuditLog } from "./audit-chain.ts";
import { auth } from "./service.ts";

const DAY_MS = 86_400_000;

describe("the audit log's chain", () => {
  let database: TestDatabase;
  let owner: Sql;
  let runtime: Database;

  beforeEach(async () => {
    database = await testDatabase(["platform", "auth"]);
    owner = connect(database.ownerUrl, { applicationName: "owner", max: 2 });
    runtime = openDatabase({ url: database.runtimeUrl, poolSize: 2, applicationName: "runtime" });
  });

  afterEach(async () => {
    await owner.end();
    await runtime[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  const write = (count: number, sql: Pick<Sql, "unsafe"> = owner) =>
    sql.unsafe(`
      insert into audit_log (action, outcome, reason, account_id, actor, address, user_agent, request_id)
      select 'login', 'success', '', gen_random_uuid(), 'anonymous', '127.0.0.1', 'test', 'request ' || number
      from generate_series(1, ${count}) number`);
  const chainAll = async () => {
    let total = 0;
    for (let added = -1; added !== 0; total += added) added = await chainAuditLog(runtime.db);
    return total;
  };
  /** The whole of it, as often as it takes. */
  const verify = async () => {
    const first = await verifyAuditLog(runtime.db, 0n);
    assert.equal(first.nextPosition, 0n);
    return first;
  };

  test("S-LOG-07 the run-time role can neither change, delete nor empty it, nor its chain", async () => {
    await write(3);
    await chainAll();
    const sql = connect(database.runtimeUrl, { applicationName: "runtime" });
    for (const table of ["audit_log", "audit_chain"]) {
      const [column] = table === "audit_log" ? ["reason"] : ["hash"];
      for (const statement of [
        `update ${table} set ${column} = ${column}`,
        `delete from ${table}`,
        `truncate ${table}`,
        `drop table ${table}`,
        `alter table ${table} disable trigger all`,
      ]) {
        await assert.rejects(sql.unsafe(statement), { code: "42501" }, statement);
      }
    }
    assert.equal(
      (await sql`select audit_trim(-1000, 1000) as deleted`)[0]!.deleted,
      0,
      "30 days are kept whatever it asks",
    );
    await sql.end();
    const { checked, brokenPosition } = await verify();
    assert.deepEqual([checked, brokenPosition], [3, 0n]);
  });

  test("S-LOG-07 fits while nobody touches it, over many pages, and in calls that go on", async () => {
    assert.deepEqual(await verify(), {
      ...{ checked: 0, brokenPosition: 0n, nextPosition: 0n, lastPosition: 0n, lastHash: "", unchained: 0 },
    });
    await write(10_500);
    assert.equal(await chainAll(), 10_500);
    assert.equal(await chainAll(), 0);
    const { checked, lastPosition, lastHash } = await verify();
    assert.deepEqual([checked, lastPosition, lastHash.length], [10_500, 10_500n, 64]);
    const rest = await verifyAuditLog(runtime.db, 10_000n);
    assert.deepEqual([rest.checked, rest.lastHash], [500, lastHash]);
  });

  const tampering: [what: string, statement: string, brokenPosition: bigint][] = [
    ["a changed entry", "update audit_log set actor = 'nobody' where id = 5", 5n],
    ["a changed time", "update audit_log set at = at + interval '1 microsecond' where id = 10", 10n],
    ["a first entry that was changed", "update audit_log set address = '::1' where id = 1", 1n],
    ["a removed entry", "delete from audit_log where id = 7", 7n],
    [
      "an entry removed with its link",
      "with gone as (delete from audit_log where id = 7) delete from audit_chain where audit_id = 7",
      8n,
    ],
    ["a changed hash", "update audit_chain set hash = sha256('') where position = 4", 4n],
    [
      "two entries that changed places",
      "update audit_chain set audit_id = 25 - audit_id where position in (12, 13)",
      12n,
    ],
  ];
  for (const [what, statement, position] of tampering) {
    test(`S-LOG-07 ${what} is noticed, and where`, async () => {
      await write(20);
      await chainAll();
      await owner.unsafe("alter table audit_chain drop constraint audit_chain_audit_id");
      await owner.unsafe(statement);
      assert.equal((await verify()).brokenPosition, position);
    });
  }

  test("S-LOG-07 an entry that was slipped in later is noticed", async () => {
    await write(20);
    await chainAll();
    await owner`
      insert into audit_log (at, action, outcome, reason, actor, address, user_agent, request_id)
      values (concierge_now() - interval '1 day', 'login', 'success', '', 'anonymous', '', '', '')`;
    await chainAll();
    const { brokenPosition, unchained } = await verify();
    assert.deepEqual([brokenPosition, unchained], [0n, 1]);
  });

  test("an entry that is committed after newer ones is chained after them", async () => {
    const written = Promise.withResolvers<void>();
    const others = Promise.withResolvers<void>();
    const late = owner.begin(async (tx) => {
      await write(1, tx);
      written.resolve();
      await others.promise;
    });
    await written.promise;
    await write(3);
    assert.equal(await chainAll(), 3);
    others.resolve();
    await late;
    assert.equal(await chainAll(), 1);
    const order = await owner`select audit_id::integer as id from audit_chain order by position`;
    assert.deepEqual(
      order.map(({ id }) => id),
      [2, 3, 4, 1],
    );
    assert.equal((await verify()).checked, 4);
  });

  test("several that chain at once make one chain", async () => {
    await write(2_500);
    while ((await Promise.all(Array.from({ length: 4 }, () => chainAuditLog(runtime.db)))).some((added) => added > 0));
    const { checked, brokenPosition } = await verify();
    assert.deepEqual([checked, brokenPosition], [2_500, 0n]);
  });

  test("retention deletes the oldest, and what is left still fits", async () => {
    await write(5);
    await chainAll();
    await setDatabaseOffset(database.ownerUrl, 29 * DAY_MS);
    await write(5);
    await chainAll();
    assert.equal(await trimAuditLog(runtime.db, 1), 0, "30 days are kept whatever is asked");
    await setDatabaseOffset(database.ownerUrl, 31 * DAY_MS);
    assert.equal(await trimAuditLog(runtime.db, 365), 0);
    assert.equal(await trimAuditLog(runtime.db, 30), 5);
    assert.equal(await trimAuditLog(runtime.db, 30), 0);
    assert.equal((await owner`select 1 from audit_log`).length, 5);
    assert.deepEqual([(await verify()).checked, (await verify()).brokenPosition], [5, 0n]);
    await owner`update audit_log set reason = 'changed' where id = 6`;
    assert.equal((await verify()).brokenPosition, 6n, "the first one that is left is checked, too");
    await setDatabaseOffset(database.ownerUrl, 100 * DAY_MS);
    assert.equal(await trimAuditLog(runtime.db, 30), 5);
    await write(2);
    assert.equal(await chainAll(), 2);
    assert.equal((await verify()).checked, 2, "the chain goes on after all of it was deleted");
  });
});

test("S-LOG-07 a job chains what is written, and operators have it checked", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  await system.newUser();
  const operator = system.asService(AuthInternalService, "operator", "auth");
  const answer = await until("registration and login are chained", async () => {
    const found = await operator.verifyAuditLog({});
    return found.checked === 2 && found;
  });
  assert.deepEqual([answer.brokenPosition, answer.unchained, answer.lastPosition], [0n, 0, 2n]);
  const backend = system.asService(AuthInternalService, "backend", "auth");
  await assert.rejects(backend.verifyAuditLog({}), { code: Code.PermissionDenied });
});
