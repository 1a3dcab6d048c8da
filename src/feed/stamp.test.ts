/** What a call of feed_stamp() reads, whatever PostgreSQL's statistics say. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sql, TransactionSql } from "postgres";
import { connect } from "../db/connection.ts";
import { testDatabase } from "../testing/cluster.ts";

const MOST = 1_000;

test("R-OBX-09 stamping reads no more rows than it stamps, also after statistics that knew of none that wait", async () => {
  await using database = await testDatabase();
  const sql = connect(database.ownerUrl, { applicationName: "test" });
  await using _ = { [Symbol.asyncDispose]: () => sql.end() };
  await write(sql, 5_000);
  while ((await stamp(sql)).stamped > 0);
  await sql`vacuum analyze feed_outbox`;
  await write(sql, 5_000);
  for (let round = 0; round < 5; round++) {
    const { stamped, read } = await stamp(sql);
    assert.equal(stamped, MOST);
    assert.ok(read <= 3 * MOST, `it read ${read} rows`);
  }
  const [gaps] = await sql`
    select count(*)::integer as count, max(position)::integer as newest, count(distinct position)::integer as positions,
      count(*) filter (where position <> id) ::integer as moved
    from feed_outbox`;
  assert.deepEqual(gaps, { count: 10_000, newest: 10_000, positions: 10_000, moved: 0 });
});

async function write(sql: Sql, count: number): Promise<void> {
  await sql`
    insert into feed_outbox (type, subject, version, payload)
    select 'test', 'user/1', number, '\\x00' from generate_series(1, ${count}::integer) number`;
}

/** Rows of the outbox that it read count as often as it read them. */
async function stamp(sql: Sql): Promise<{ stamped: number; read: number }> {
  return sql.begin(async (tx) => {
    const readBefore = await rowsRead(tx);
    const [row] = await tx<{ stamped: number }[]>`select feed_stamp(${MOST}::integer) as stamped`;
    return { stamped: row!.stamped, read: (await rowsRead(tx)) - readBefore };
  }) as Promise<{ stamped: number; read: number }>;
}

/** By this connection, since it told the others last. */
async function rowsRead(tx: TransactionSql): Promise<number> {
  const [row] = await tx<{ read: number }[]>`
    select (seq_tup_read + idx_tup_fetch)::integer as read
    from pg_stat_xact_user_tables where relname = 'feed_outbox'`;
  return row!.read;
}
