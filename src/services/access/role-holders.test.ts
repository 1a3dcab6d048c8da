/** Who has a role: as every decision counts it, page by page. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Client } from "@connectrpc/connect";
import type { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { answerOf, inDatabase, newMember, newOwner, type TestMember } from "../organization/testing.ts";
import { backendOf, memberOf } from "./testing.ts";

describe("holders of a role", () => {
  let system: TestSystem;
  let owner: TestMember;
  let organizationId: string;
  let access: Client<typeof AccessService>;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const beginAnew = async () => {
    owner = await newOwner(system);
    organizationId = owner.organizationId;
    access = memberOf(system, owner);
    await access.createRole({ name: "cashier" });
  };
  const ask = (role: string, page: { pageSize?: number; pageToken?: string } = {}) =>
    backendOf(system).listUsersWithRole({ organizationId, role, ...page });
  const holders = async (role: string) => (await ask(role)).userIds;
  const suspension = (status: string) =>
    inDatabase(
      system,
      "organization",
      (sql) => sql`update organizations set status = ${status} where id = ${organizationId}`,
    );

  test("in the whole organization or in an open branch; once, however often it was given", async () => {
    await beginAnew();
    const [ann, bob] = [await newMember(system, owner), await newMember(system, owner)];
    const [shop, kiosk] = await Promise.all(
      ["Shop", "Kiosk"].map(async (name) => (await owner.client.createBranch({ name })).branch!.branchId),
    );
    await access.assignRole({ userId: ann.userId, role: "cashier" });
    for (const branchId of [shop!, kiosk!]) await access.assignRole({ userId: bob.userId, role: "cashier", branchId });
    assert.deepEqual(await holders("cashier"), [ann.userId, bob.userId].sort());
    await owner.client.closeBranch({ branchId: shop! });
    assert.equal((await holders("cashier")).length, 2);
    await owner.client.closeBranch({ branchId: kiosk! });
    assert.deepEqual(await holders("cashier"), [ann.userId]);
  });

  test("not by what was given for a membership that has ended, nor while the organization is suspended", async () => {
    await beginAnew();
    const ann = await newMember(system, owner);
    await access.assignRole({ userId: ann.userId, role: "cashier" });
    // Left and come back: another membership, and access may not have heard of it yet.
    await inDatabase(
      system,
      "organization",
      (sql) => sql`update memberships set id = gen_random_uuid() where user_id = ${ann.userId}`,
    );
    assert.deepEqual(await holders("cashier"), []);
    await access.assignRole({ userId: ann.userId, role: "cashier" });
    assert.deepEqual(await holders("cashier"), [ann.userId]);
    await suspension("suspended");
    for (const role of ["cashier", "member", "owner"]) assert.deepEqual(await holders(role), [], role);
  });

  test("owner, admin and member are the members of exactly that sort", async () => {
    await beginAnew();
    const [admin, member] = [await newMember(system, owner, MemberRole.ADMIN), await newMember(system, owner)];
    assert.deepEqual(await holders("owner"), [owner.userId]);
    assert.deepEqual(await holders("admin"), [admin.userId]);
    assert.deepEqual(await holders("member"), [member.userId]);
  });

  test("in pages, whose tokens are good for this list alone", async () => {
    await beginAnew();
    await access.createRole({ name: "baker" });
    const people = [owner, await newMember(system, owner), await newMember(system, owner)];
    for (const { userId } of people) await access.assignRole({ userId, role: "cashier" });
    const first = await ask("cashier", { pageSize: 2 });
    const second = await ask("cashier", { pageSize: 2, pageToken: first.nextPageToken });
    assert.deepEqual([...first.userIds, ...second.userIds], people.map(({ userId }) => userId).sort());
    assert.equal(second.nextPageToken, "");
    const { nextPageToken } = await ask("member", { pageSize: 1 });
    assert.equal((await ask("member", { pageSize: 1, pageToken: nextPageToken })).userIds.length, 1);
    for (const [role, pageToken] of [
      ["baker", first.nextPageToken],
      ["owner", nextPageToken],
      ["owner", "x"],
    ] as const) {
      assert.equal(await answerOf(ask(role, { pageToken })), "INVALID_PAGE_TOKEN", role);
    }
  });

  test("no role and no organization by that name", async () => {
    await beginAnew();
    assert.equal(await answerOf(ask("baker")), "ROLE_NOT_FOUND");
    assert.equal(await answerOf(ask("user")), "ROLE_NOT_FOUND");
    organizationId = crypto.randomUUID();
    assert.equal(await answerOf(ask("owner")), "ORGANIZATION_NOT_FOUND");
  });
});
