/** What rights are made of: pure decisions, case by case. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { revision, subjectOf } from "../../rights/revisions.ts";
import { holds } from "../../rights/rights.ts";
import { explain } from "./explanations.ts";
import type { Membership } from "./memberships.ts";
import { allPermissions, permissionsOfMember } from "./permissions.ts";
import { type Facts, type Gift, organizationRights, platformRights } from "./rights.ts";

const [shop, store, closed] = ["shop", "store", "closed"];
const products = ["things:do", "things:see"];

function member(role: Membership["role"] = "member", changes: Partial<Membership> = {}): Membership {
  const revisions = revision("organization", "bakery", 4n);
  return { role, id: "first", isActive: true, branchIds: [shop, store], revisions, ...changes };
}

function facts(...gifts: Gift[]): Facts {
  return { gifts, isAdmin: false, products, revisions: revision("access", "bakery", 9n) };
}

function gift(permissions: string[], branchId: string | null = null, role: string | null = null): Gift {
  return { role, permissions, branchId, membershipId: "first", assignedBy: "anne", assignedAt: "2026-01-01T00:00:00Z" };
}

const branchesOf = (...given: Parameters<typeof organizationRights>) =>
  Object.fromEntries([...organizationRights(...given).branches].map(([id, held]) => [id, [...held]]));

test("owners hold everything, admins all but to delete and to transfer, members to see what is there", () => {
  const heldBy = (role: Membership["role"]) => [...organizationRights(member(role), facts()).permissions];
  assert.deepEqual(heldBy("owner"), allPermissions(products).sort());
  const lacking = allPermissions(products).filter((name) => !heldBy("admin").includes(name));
  assert.deepEqual(lacking, ["organization:delete", "organization:transfer"]);
  assert.deepEqual(heldBy("member"), ["branches:read", "members:read", "organization:read"]);
  assert.deepEqual(organizationRights(member("admin"), facts()).roles, ["admin"]);
});

test("nothing counts for who is no member, or in an organization that is suspended", () => {
  const given = facts(gift(["things:do"]), gift(["things:do"], shop));
  for (const [membership, standing] of [
    [member(null), "none"],
    [member("owner", { isActive: false }), "suspended"],
    [member(null, { isActive: false }), "none"],
  ] as const) {
    const rights = organizationRights(membership, given);
    assert.deepEqual(
      [rights.standing, rights.roles, rights.permissions.size, rights.branches.size],
      [standing, [], 0, 0],
    );
    assert.ok(!holds(rights, "things:do") && !holds(rights, "things:do", shop));
  }
});

test("whoever leads, or has something everywhere, may act in every open branch; others where they have something", () => {
  assert.deepEqual(branchesOf(member("owner"), facts()), { shop: [], store: [] });
  assert.deepEqual(branchesOf(member("admin"), facts(gift(["things:do"], shop))), { shop: [], store: [] });
  assert.deepEqual(branchesOf(member(), facts()), {});
  assert.deepEqual(branchesOf(member(), facts(gift(["things:do"], shop))), { shop: ["things:do"] });
  assert.deepEqual(branchesOf(member(), facts(gift([], shop, "helper"))), { shop: [] });
  const both = facts(gift(["things:see"], null, "seer"), gift(["things:do", "things:see"], store));
  assert.deepEqual(branchesOf(member(), both), { shop: [], store: ["things:do"] });
  assert.deepEqual(branchesOf(member(), facts(gift(["things:do"], closed))), {});
});

test("roles that count in one branch only are not told as roles of the organization", () => {
  const rights = organizationRights(member(), facts(gift([], null, "b"), gift([], null, "a"), gift([], shop, "c")));
  assert.deepEqual(rights.roles, ["a", "b", "member"]);
});

test("the answer says which revisions it is of, for who is no member, too", () => {
  for (const membership of [member(), member(null), member("owner", { isActive: false })]) {
    const { revisions } = organizationRights(membership, facts());
    assert.deepEqual(
      [revisions.get(subjectOf("organization", "bakery")), revisions.get(subjectOf("access", "bakery"))],
      [4n, 9n],
    );
  }
});

test("on the platform counts what comes with the account and what was given there; admins hold everything", () => {
  const given = facts(gift(["things:do"], null, "helper"));
  assert.deepEqual(platformRights("artist", given).roles, ["artist", "helper", "user"]);
  assert.deepEqual([...platformRights("user", given).permissions], ["things:do"]);
  const admin = platformRights("user", { ...given, isAdmin: true });
  assert.deepEqual(admin.roles, ["admin", "helper", "user"]);
  assert.deepEqual([...admin.permissions], allPermissions(products).sort());
});

test("what was given for a membership that has ended gives nothing to who comes back, and explains nothing", () => {
  const known = facts(gift(["things:do"], null, "doer"), gift(["things:see"], shop));
  const back = member("member", { id: "second" });
  const rights = organizationRights(back, known);
  assert.deepEqual([rights.roles, [...rights.branches]], [["member"], []]);
  assert.ok(!holds(rights, "things:do") && !holds(rights, "things:see", shop));
  const admin = member("admin", { id: "second" });
  const builtIn = { role: "admin" as const, permissions: permissionsOfMember("admin", products) };
  const grounds = { facts: known, builtIn, branchIds: [], membershipId: admin.id };
  const check = { userId: "u", organizationId: "bakery", permission: "things:do", branchId: "" };
  const explanation = explain(organizationRights(admin, known), grounds, check);
  assert.deepEqual(explanation.allowed && explanation.sources.map(({ role }) => role), ["admin"]);
});

test("an explanation names every source of what is held, and one reason of what is not", () => {
  const explained = (membership: Membership, known: Facts, permission: string, branchId = "") => {
    const { role, branchIds } = membership;
    const builtIn = role === null ? undefined : { role, permissions: permissionsOfMember(role, products) };
    const check = { userId: "u", organizationId: "bakery", permission, branchId };
    const grounds = { facts: known, builtIn, branchIds, membershipId: membership.id };
    const explanation = explain(organizationRights(membership, known), grounds, check);
    return explanation.allowed
      ? explanation.sources.map(({ role, branchId }) => `${role}@${branchId}`)
      : explanation.denial;
  };
  const known = facts(
    gift(["things:do"], null, "doer"),
    gift(["things:see"], shop),
    gift(["things:do"], shop, "helper"),
  );
  assert.deepEqual(explained(member("owner"), known, "things:do"), ["owner@", "doer@"]);
  assert.deepEqual(explained(member(), known, "things:do", shop), ["doer@", "helper@shop"]);
  assert.deepEqual(explained(member(), known, "things:do"), ["doer@"]);
  assert.deepEqual(explained(member(), known, "things:see", shop), ["@shop"]);
  assert.equal(explained(member(), known, "things:see", store), "other_branch");
  assert.equal(explained(member(), known, "things:see"), "other_branch");
  assert.equal(explained(member(), facts(), "branches:read", shop), "other_branch");
  assert.equal(explained(member(), facts(), "things:see"), "not_granted");
  assert.equal(explained(member(), known, "things:do", closed), "no_branch");
  assert.equal(explained(member("owner"), known, "no:such"), "unknown_permission");
  assert.equal(explained(member("owner", { isActive: false }), known, "things:do"), "suspended");
  assert.equal(explained(member(null), known, "things:do"), "not_a_member");
});
