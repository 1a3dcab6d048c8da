import assert from "node:assert/strict";
import test from "node:test";
import { inspect } from "node:util";
import { ConnectError } from "@connectrpc/connect";
import { sql } from "drizzle-orm";
import { Code, fail, reasonOf } from "../errors.ts";
import { testDatabase } from "../testing/cluster.ts";
import { connect } from "./connection.ts";
import { openDatabase } from "./database.ts";
import { constraintOf, sqlStateOf, toConnectError, withoutData } from "./errors.ts";

const CANARY = "canary-4711";

test("S-LOG-04 errors of the database become answers without constraint, table, statement or value", async () => {
  await using fresh = await testDatabase();
  const owner = connect(fresh.ownerUrl, { applicationName: "owner" });
  await owner.unsafe(`
    create table secret_table (id text primary key, parent text constraint secret_parent references secret_table,
      number uuid, document jsonb)`);
  await owner.end();
  await using database = openDatabase({
    url: fresh.ownerUrl,
    poolSize: 1,
    applicationName: "errors-test",
    statementTimeoutMs: 1_000,
  });
  const { db } = database;
  await db.execute(sql`insert into secret_table (id) values (${CANARY})`);
  const raise = (state: string) =>
    sql.raw(`do $$ begin raise exception '${CANARY} secret_table' using errcode = '${state}'; end $$`);
  const cases = [
    [sql`insert into secret_table (id) values (${CANARY})`, Code.AlreadyExists, "ALREADY_EXISTS"],
    [sql`insert into secret_table (id, parent) values ('b', ${CANARY + 1})`, Code.NotFound, "NOT_FOUND"],
    [raise("40001"), Code.Aborted, "CONFLICT"],
    [raise("40P01"), Code.Aborted, "CONFLICT"],
    [sql`select pg_sleep(5), ${CANARY}::text`, Code.DeadlineExceeded, "DEADLINE_EXCEEDED"],
    [
      sql`insert into secret_table (id, number) values ('c', ${CANARY}::text::uuid)`,
      Code.InvalidArgument,
      "INVALID_REQUEST",
    ],
    [sql`insert into secret_table (id) values (${`${CANARY}\0`})`, Code.InvalidArgument, "INVALID_REQUEST"],
    [sql`insert into secret_table (id, document) values ('d', '"\\u0000"')`, Code.InvalidArgument, "INVALID_REQUEST"],
    [raise("57P03"), Code.Unavailable, "DATABASE_UNAVAILABLE"],
    [raise("53100"), Code.Unavailable, "DATABASE_UNAVAILABLE"],
    [raise("08006"), Code.Unavailable, "DATABASE_UNAVAILABLE"],
  ] as const;
  for (const [query, code, reason] of cases) {
    const error = await db.execute(query).then(
      () => assert.fail("it should have failed"),
      (caught: unknown) => caught,
    );
    const answer = toConnectError(error);
    assert.deepEqual([answer?.code, reasonOf(answer)], [code, reason], String(error));
    const said = [answer?.message, answer?.rawMessage, inspect(answer?.details)].join();
    assert.doesNotMatch(said, /secret|canary|insert|select|pkey/i);
    assert.doesNotMatch(inspect(answer?.cause, { depth: 9 }), /canary|insert into|values|secret_table \(/i);
  }
});

test("a unique violation tells the domain which constraint it was", async () => {
  await using fresh = await testDatabase();
  await using database = openDatabase({ url: fresh.runtimeUrl, poolSize: 1, applicationName: "errors-test" });
  const insert = sql`insert into spent_token (jti, expires_at) values ('a', concierge_now())`;
  await database.db.execute(insert);
  const error = await database.db.execute(insert).catch((caught: unknown) => caught);
  assert.equal(constraintOf(error), "spent_token_pkey");
  assert.equal(sqlStateOf(error), "23505");
});

test("R-RES-01 connection faults, and no file left for a connection, are unavailability; our own errors and strangers' are left alone", () => {
  for (const code of [
    "ECONNREFUSED",
    "CONNECT_TIMEOUT",
    "CONNECTION_CLOSED",
    "CONNECTION_ENDED",
    "EPIPE",
    "ENOTFOUND",
    "EMFILE",
    "EADDRNOTAVAIL",
  ]) {
    const error = Object.assign(new Error("connect 10.0.0.1:5432"), { code });
    assert.equal(toConnectError(error)?.code, Code.Unavailable, code);
    assert.equal(toConnectError(new Error("Failed query", { cause: error }))?.code, Code.Unavailable, code);
    assert.equal(sqlStateOf(error), undefined);
  }
  const refused = Object.assign(new Error("x"), { code: "ECONNREFUSED" });
  assert.equal(toConnectError(fail(Code.NotFound, "USER_NOT_FOUND", "no such user", { cause: refused })), undefined);
  assert.equal(toConnectError(new ConnectError("peer", Code.Unavailable, undefined, undefined, refused)), undefined);
  assert.equal(toConnectError(new Error("other")), undefined);
  assert.equal(toConnectError("text"), undefined);
  assert.equal(toConnectError(Object.assign(new Error("x"), { code: "42P01" })), undefined);
});

test("what is logged of a defect has the code and the stack, not the statement", async () => {
  await using fresh = await testDatabase();
  await using database = openDatabase({ url: fresh.runtimeUrl, poolSize: 1, applicationName: "errors-test" });
  const error = await database.db
    .execute(sql`select ${CANARY}::text from no_such_table`)
    .catch((caught: unknown) => caught);
  assert.equal(toConnectError(error), undefined);
  const clean = withoutData(error) as Error;
  assert.match(clean.message, /42P01/);
  assert.match(String(clean.stack), /at .*errors\.test\.ts/);
  assert.doesNotMatch(inspect(clean, { depth: 9 }), /canary|no_such_table/);
  const other = new Error("kept");
  assert.equal(withoutData(other), other);
});
