import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { base64Encode } from "@bufbuild/protobuf/wire";
import { ConsistencyTokenSchema } from "../../gen/concierge/consistency/v1/consistency_pb.ts";
import { Code, reasonOf } from "../errors.ts";
import {
  covers,
  fromConsistencyToken,
  mergeRevisions,
  NO_REVISIONS,
  revision,
  subjectOf,
  toConsistencyToken,
  wantedRevisions,
} from "./revisions.ts";

const ORGANIZATION = "0198c0de-0000-7000-8000-000000000001";
const some = mergeRevisions(revision("access", ORGANIZATION, 7n), revision("access", "", 3n));

/** A token of these, whatever they are. */
function tokenOf(revisions: { service: string; organizationId: string; version: bigint }[]): string {
  return base64Encode(toBinary(ConsistencyTokenSchema, create(ConsistencyTokenSchema, { revisions })), "url");
}

test("a token says what was put into it, organizations in lower case, and the newest of what is there twice", () => {
  assert.deepEqual(fromConsistencyToken(toConsistencyToken(some)), some);
  assert.equal(toConsistencyToken(NO_REVISIONS), "");
  assert.deepEqual(fromConsistencyToken(""), NO_REVISIONS);
  const spelled = { service: "access", organizationId: ORGANIZATION.toUpperCase() };
  const token = tokenOf([
    { ...spelled, version: 9n },
    { ...spelled, version: 4n },
  ]);
  assert.deepEqual(fromConsistencyToken(token), revision("access", ORGANIZATION, 9n));
});

test("services that nobody knows are no error: a newer part of the system may have them", () => {
  const token = tokenOf([{ service: "billing", organizationId: "", version: 1n }]);
  assert.equal(fromConsistencyToken(token).get(subjectOf("billing", "")), 1n);
  assert.ok(covers(some, fromConsistencyToken(token)));
});

test("tokens that are malformed, too long or made up are refused, all alike", () => {
  const good = toConsistencyToken(some);
  const one = { service: "access", organizationId: "", version: 1n };
  for (const token of [
    "%",
    "null",
    "AAAA",
    good.slice(0, -3),
    `${good}AAAA`,
    good.repeat(200),
    tokenOf(Array.from({ length: 51 }, () => one)),
    tokenOf([{ ...one, service: "" }]),
    tokenOf([{ ...one, service: "Access" }]),
    tokenOf([{ ...one, service: "access/x" }]),
    tokenOf([{ ...one, organizationId: "x" }]),
    tokenOf([{ ...one, organizationId: `${ORGANIZATION}' or true` }]),
  ]) {
    const refusal = (error: unknown) => reasonOf(error) === "INVALID_CONSISTENCY_TOKEN";
    assert.throws(() => fromConsistencyToken(token), refusal, token.slice(0, 80));
    assert.throws(() => fromConsistencyToken(token), { code: Code.InvalidArgument });
  }
});

test("several header lines count together, however the name is written", () => {
  const lines = ["consistency-token", toConsistencyToken(some), "x", "y"];
  const other = revision("organization", ORGANIZATION, 2n);
  const wanted = wantedRevisions([...lines, "Consistency-Token", ` ${toConsistencyToken(other)} `]);
  assert.deepEqual(wanted, mergeRevisions(some, other));
  assert.deepEqual(wantedRevisions(["x", "consistency-token"]), NO_REVISIONS);
});

test("what is known covers what is wanted if nothing that it depends on is older", () => {
  const wanting = (version: bigint, service = "access") => revision(service, ORGANIZATION, version);
  assert.ok(covers(some, wanting(7n)));
  assert.ok(covers(some, wanting(6n)));
  assert.ok(!covers(some, wanting(8n)));
  assert.ok(covers(some, wanting(8n, "organization")));
  assert.ok(covers(some, NO_REVISIONS));
});
