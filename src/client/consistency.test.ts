/** What was seen is wanted and sent, and not more of it than a service reads. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromConsistencyToken, revision, subjectOf, toConsistencyToken } from "../rights/revisions.ts";
import { SeenRevisions } from "./consistency.ts";

const [bakery, school] = [crypto.randomUUID(), crypto.randomUUID()];

function tokenOf(service: string, organizationId: string, version: bigint): string {
  return toConsistencyToken(revision(service, organizationId, version));
}

test("C20 the newest of each is wanted, of the organization and of the platform only", () => {
  const seen = new SeenRevisions();
  assert.equal(seen.token(), "");
  seen.note(tokenOf("access", bakery, 5n));
  seen.note(tokenOf("access", bakery, 4n));
  seen.note(tokenOf("organization", school, 7n));
  seen.note(tokenOf("access", "", 2n));
  const wanted = [
    [subjectOf("access", bakery), 5n],
    [subjectOf("access", ""), 2n],
  ];
  assert.deepEqual([...seen.wanted(bakery)], wanted);
  assert.equal(fromConsistencyToken(seen.token()).size, 3);
  seen.clear();
  assert.deepEqual([seen.token(), seen.wanted(bakery).size], ["", 0]);
});

test("of many organizations the last ones are sent; what cannot be read is nothing", () => {
  const seen = new SeenRevisions();
  for (const nothing of ["", "x", "AAAA", "é"]) seen.note(nothing);
  const ids = Array.from({ length: 100 }, () => crypto.randomUUID());
  for (const id of ids) seen.note(tokenOf("access", id, 1n));
  seen.note(tokenOf("access", ids[0]!, 2n));
  const sent = fromConsistencyToken(seen.token());
  assert.equal(sent.size, 20);
  assert.equal(sent.get(subjectOf("access", ids[0]!)), 2n);
  assert.equal(sent.get(subjectOf("access", ids[1]!)), undefined);
  assert.equal(seen.wanted(ids[1]!).size, 1);
});
