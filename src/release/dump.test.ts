/** What is dumped and loaded is what was there, whatever characters it has. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../db/connection.ts";
import { MIGRATIONS_FOLDER, readMigrations } from "../db/migrations.ts";
import { testDatabase } from "../testing/cluster.ts";
import { describeData } from "../testing/schema.ts";
import { dumpDatabase, loadDump } from "./dump.ts";

test("R-DEP-09 a loaded dump has every row as it was, and its sequences go on after the last one", async () => {
  const series = ["platform", "auth"];
  await using original = await testDatabase(series);
  await using copy = await testDatabase([]);
  await using closing = new AsyncDisposableStack();
  const [from, to] = [original, copy].map(({ ownerUrl }) => {
    const sql = connect(ownerUrl, { applicationName: "test" });
    closing.defer(() => sql.end());
    return sql;
  });
  const id = crypto.randomUUID();
  const names = [
    "tab\there",
    "line\nbreak\r\n",
    "back\\slash",
    "\\.\n",
    "\\N",
    "COPY x FROM stdin;\n1\n\\.\n",
    "é 日本 '\"",
  ];
  for (const name of names) {
    await from!`
      insert into audit_log (action, outcome, reason, account_id, actor, address, user_agent, request_id)
      values ('login', 'ok', '', ${id}, ${name}, '', '', '')`;
  }
  await from!`insert into removed_keys (key_id) values ('')`;
  const text = await dumpDatabase(from!, await readMigrations(MIGRATIONS_FOLDER, series), "A database of a test.");
  await loadDump(to!, text);
  assert.deepEqual(await describeData(to!), await describeData(from!));
  const [next] = await to!`select nextval('audit_log_id_seq') as id`;
  assert.equal(next!.id, String(names.length + 1));
});
