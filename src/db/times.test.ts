import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Sql } from "postgres";
import { type TestDatabase, testDatabase } from "../testing/cluster.ts";
import { connect } from "./connection.ts";

const TIMES = [
  "1970-01-01T00:00:00.000Z",
  "2024-02-29T23:59:59.999Z",
  // In Berlin there is no such hour, and in autumn there are two.
  "2026-03-29T01:30:00.000Z",
  "2026-10-25T00:30:00.000Z",
  "2026-10-25T01:30:00.000Z",
  "2038-01-19T03:14:08.000Z",
  "9999-12-31T23:59:59.999Z",
];

let database: TestDatabase;
let sql: Sql;

before(async () => {
  database = await testDatabase();
  sql = connect(database.ownerUrl, { applicationName: "test" });
});

after(async () => {
  await sql.end();
  await database[Symbol.asyncDispose]();
});

test("R-CLK-03 no migration has a column of time without its zone", () => {
  for (const file of globSync("drizzle/*/*.sql")) {
    const text = readFileSync(file, "utf8").replaceAll(/timestamp(\(\d\))? with time zone/gi, "");
    assert.doesNotMatch(text, /\btimestamp\b/i, file);
  }
});

test("R-CLK-03 times of leap days, changes of the clock, 2038 and 9999 come back as they went in, in any zone", async () => {
  for (const zone of ["UTC", "Europe/Berlin", "Pacific/Apia"]) {
    await sql.unsafe(`set timezone to '${zone}'`);
    for (const time of TIMES) {
      const [row] = await sql<{ at: Date }[]>`select ${new Date(time)}::timestamptz as at`;
      assert.equal(timestampDate(timestampFromDate(row!.at)).toISOString(), time, zone);
    }
  }
});
