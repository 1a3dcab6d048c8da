/** Branches: made, renamed and closed, each in its organization only. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { createBranch } from "./branches.ts";
import { answerOf, newMember, newOwner, openTestDatabase, scope, type TestMember } from "./testing.ts";

describe("branches", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const namesIn = async ({ client }: TestMember, includeClosed = false) =>
    (await client.listBranches({ includeClosed })).branches.map(({ name }) => name);
  const make = async ({ client }: TestMember, name: string) => (await client.createBranch({ name })).branch!.branchId;

  test("open ones are listed by name; a closed one stays closed, and its name is free", async () => {
    const owner = await newOwner(system);
    const member = await newMember(system, owner);
    const [south, north] = [await make(owner, "South"), await make(owner, "North")];
    assert.deepEqual(await namesIn(member), ["North", "South"]);
    const { client } = owner;
    assert.equal(await answerOf(client.createBranch({ name: "North" })), "BRANCH_EXISTS");
    assert.equal(await answerOf(client.renameBranch({ branchId: north, name: "South" })), "BRANCH_EXISTS");
    assert.equal((await client.renameBranch({ branchId: north, name: "East" })).branch?.name, "East");
    assert.equal(await answerOf(client.renameBranch({ branchId: north, name: "East" })), "done");

    assert.equal(await answerOf(client.closeBranch({ branchId: south })), "done");
    assert.equal(await answerOf(client.closeBranch({ branchId: south })), "done");
    assert.equal(await answerOf(client.renameBranch({ branchId: south, name: "West" })), "BRANCH_NOT_FOUND");
    await make(owner, "South");
    assert.deepEqual(await namesIn(member), ["East", "South"]);
    assert.deepEqual(await namesIn(member, true), ["East", "South", "South"]);
    assert.equal(await answerOf(member.client.createBranch({ name: "Mine" })), "PERMISSION_MISSING");
    assert.equal(await answerOf(client.createBranch({ name: "" })), "INVALID_REQUEST");
  });

  test("rights know the open ones", async () => {
    const owner = await newOwner(system);
    const { userId, organizationId, client } = owner;
    const access = system.asService(AccessInternalService, "backend", "access");
    const known = async (consistencyToken: string) => {
      const headers = { "consistency-token": consistencyToken };
      const { rights } = await access.getUserPermissions({ userId, organizationId }, { headers });
      return rights!.branches.map(({ branchId }) => branchId);
    };
    const { branch, consistencyToken } = await client.createBranch({ name: "Main street" });
    const { branchId } = branch!;
    assert.deepEqual(await known(consistencyToken), [branchId]);
    assert.deepEqual(await known((await client.closeBranch({ branchId })).consistencyToken), []);
  });

  test("those of another organization are not there, as any unknown one", async () => {
    const [owner, other] = [await newOwner(system), await newOwner(system)];
    const branchId = await make(owner, "Main street");
    for (const id of [branchId, crypto.randomUUID()]) {
      assert.equal(await answerOf(other.client.renameBranch({ branchId: id, name: "Mine" })), "BRANCH_NOT_FOUND");
      assert.equal(await answerOf(other.client.closeBranch({ branchId: id })), "BRANCH_NOT_FOUND");
    }
    assert.equal(await make(other, "Main street").then((id) => id !== branchId), true);
    assert.deepEqual(await namesIn(owner), ["Main street"]);
  });
});

test("of ten who make a branch of one name at once one does, and no more than 1,000 are open", async () => {
  await using database = await openTestDatabase();
  const userId = crypto.randomUUID();
  const organizationId = await database.found(userId);
  const member = { kind: "user", sessionId: "", userId, organizationId } as const;
  const make = (name: string) => answerOf(createBranch(database.db, scope, member, name));
  const answers = await Promise.all(Array.from({ length: 10 }, () => make("Main street")));
  assert.equal(answers.filter((answer) => answer === "done").length, 1);
  assert.equal(answers.filter((answer) => answer === "BRANCH_EXISTS").length, 9);
  await database.sql`
    insert into branches (id, organization_id, name)
    select gen_random_uuid(), ${organizationId}, number::text from generate_series(1, 999) number`;
  assert.equal(await make("one more"), "TOO_MANY_BRANCHES");
  await database.sql`update branches set closed_at = now() where name = '7'`;
  assert.equal(await make("one more"), "done");
});
