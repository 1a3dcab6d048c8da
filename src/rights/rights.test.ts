import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { RightsSchema } from "../../gen/concierge/access/v1/rights_pb.ts";
import { NO_REVISIONS } from "./revisions.ts";
import { branchesOf, holds, noRights, packRights, type Rights, setOf, unpackRights } from "./rights.ts";

const [shop, store, elsewhere] = ["shop", "store", "elsewhere"];
const rights: Rights = {
  standing: "active",
  roles: ["member", "seller"],
  permissions: setOf(["things:read"]),
  branches: new Map([
    [shop, setOf(["things:sell"])],
    [store, setOf([])],
  ]),
  revisions: NO_REVISIONS,
};

test("what is held everywhere is held in each branch of the person, and what is held in one there alone", () => {
  const table: [permission: string, branch: string | undefined, held: boolean][] = [
    ["things:read", undefined, true],
    ["things:read", shop, true],
    ["things:read", store, true],
    ["things:read", elsewhere, false],
    ["things:sell", undefined, false],
    ["things:sell", shop, true],
    ["things:sell", store, false],
    ["things:buy", shop, false],
    ["", undefined, false],
  ];
  for (const [permission, branch, held] of table) {
    assert.equal(holds(rights, permission, branch), held, `${permission} ${branch}`);
    for (const standing of ["none", "suspended"] as const) {
      assert.equal(holds({ ...rights, standing }, permission, branch), false, standing);
      assert.equal(holds(noRights(standing, NO_REVISIONS), permission, branch), false, standing);
    }
  }
});

test("rights arrive as they were sent; a standing that nobody knows, or none at all, is an error and no right", () => {
  for (const sent of [rights, noRights("none", NO_REVISIONS), noRights("suspended", NO_REVISIONS)]) {
    assert.deepEqual(unpackRights(create(RightsSchema, packRights(sent)), NO_REVISIONS), sent);
  }
  for (const message of [undefined, create(RightsSchema), create(RightsSchema, { standing: 99 as never })]) {
    assert.throws(() => unpackRights(message, NO_REVISIONS), /unknown standing/);
  }
});

test("the same names are one set, in alphabetical order", () => {
  assert.equal(setOf(["b:c", "a:b"]), setOf(["a:b", "b:c"]));
  assert.deepEqual([...setOf(["b:c", "a:b"])], ["a:b", "b:c"]);
  assert.equal(setOf([]).size, 0);
});

test("whoever sees the same branches shares them, unless something is held in one alone", () => {
  const branches = (sold: string[]) => branchesOf([[shop, setOf(sold)] as const, [store, setOf([])] as const]);
  assert.equal(branches([]), branches([]));
  assert.notEqual(branches([]), branches(["things:sell"]));
  assert.deepEqual(branches(["things:sell"]), rights.branches);
});
