import assert from "node:assert/strict";
import { test } from "node:test";
import { casesOf, filesByCase, idsIn, readCatalogue } from "./catalogue.ts";

test("ids are found wherever a name has them, each once", () => {
  assert.deepEqual(idsIn("S-JWT-01, R-NET-10: not S-JWT-1, XS-JWT-02 or S-JWT-01 again; S-H2-11."), [
    "S-JWT-01",
    "R-NET-10",
    "S-H2-11",
  ]);
  assert.deepEqual(idsIn("none"), []);
});

test("no test or proof names a case that is not in the catalogue", () => {
  const known = new Set(casesOf(readCatalogue()));
  const strangers = [...filesByCase()].filter(([id]) => !known.has(id));
  assert.deepEqual(strangers, []);
});

test("each case is named by a test or a proof, or it is said why not", () => {
  const catalogue = readCatalogue();
  const files = filesByCase();
  const missing = casesOf(catalogue).filter((id) => !files.has(id) && catalogue.reasons[id] === undefined);
  assert.deepEqual(missing, []);
});

test("no case is in the catalogue twice, and reasons are those of cases", () => {
  const catalogue = readCatalogue();
  const ids = casesOf(catalogue);
  assert.equal(new Set(ids).size, ids.length);
  assert.deepEqual(
    Object.keys(catalogue.reasons).filter((id) => !ids.includes(id)),
    [],
  );
});
