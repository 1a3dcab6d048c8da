import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { casesOf, idsIn, readCatalogue } from "./catalogue.ts";

/** SHA-256 of "<id> <level>" of the standard's requirements of levels 1 and 2, a line each, in its order. */
const REQUIREMENTS = "29debb6cfc11acf5deb2b2bb4e01bd836c5648dcc592aae17957e36b808cec05";
const STATUSES = ["met", "partly", "not met", "not applicable"];
const ROW = /^\| (\d+\.\d+\.\d+) \| ([12]) \| [^|]+ \| ([a-z ]+) \| (.+) \|$/gm;
const SUM = /^\| ([12]) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$/gm;

const page = readFileSync(new URL("../../docs/asvs.md", import.meta.url), "utf8");
const rows = [...page.matchAll(ROW)].map(([, id, level, status, how]) => {
  return { id: id!, level: level!, status: status!, how: how! };
});

test("every requirement of levels 1 and 2 is there once, with its level", () => {
  const lines = rows.map(({ id, level }) => `${id} ${level}`);
  assert.equal(createHash("sha256").update(lines.join("\n")).digest("hex"), REQUIREMENTS);
});

test("each has one of the four answers, and the table at the top counts them", () => {
  const levels = ["1", "2"].map((level) => {
    const counts = STATUSES.map((status) => rows.filter((row) => row.level === level && row.status === status).length);
    return [level, ...counts, counts.reduce((sum, count) => sum + count, 0)].map(String);
  });
  assert.deepEqual(
    [...page.matchAll(SUM)].map((sum) => sum.slice(1)),
    levels,
  );
  assert.deepEqual(
    levels.map((level) => level.at(-1)),
    ["70", "183"],
  );
});

test("the cases that it names are in the catalogue, and none that is said to be met goes by a case that is not proven", () => {
  const catalogue = readCatalogue();
  const known = new Set(casesOf(catalogue));
  assert.deepEqual(
    rows.flatMap(({ how }) => idsIn(how)).filter((id) => !known.has(id)),
    [],
  );
  const unproven = rows.filter(({ status, how }) => {
    const ids = idsIn(how);
    return status === "met" && ids.length > 0 && ids.every((id) => catalogue.reasons[id] !== undefined);
  });
  assert.deepEqual(unproven, []);
});
