/** Accounts that end: what becomes of their memberships, and of what the person does in the moment between. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { MemberRole } from "../../../gen/concierge/organization/v1/organization_pb.ts";
import {
  OrganizationInternalService,
  OrganizationService,
} from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { transaction } from "../../db/database.ts";
import { emit } from "../../feed/emit.ts";
import { lockWaits } from "../../testing/lock-waits.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { releaseUser, removeAccount } from "./accounts.ts";
import { createOrganization } from "./organizations.ts";
import {
  answerOf,
  inDatabase,
  newMember,
  newOwner,
  newSlug,
  newVerifiedUser,
  openTestDatabase,
  scope,
  toldOf,
} from "./testing.ts";

describe("deleting an account with organizations", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem();
  });

  after(() => system[Symbol.asyncDispose]());

  const operator = () => system.asService(OrganizationInternalService, "operator", "organization");
  const authOperator = () => system.asService(AuthInternalService, "operator", "auth");
  const deleteMe = ({ accessToken, password: currentPassword }: TestUser) =>
    answerOf(system.asUser(AuthService, accessToken).deleteMyAccount({ currentPassword }));

  test("S-TEN-11 the last owner of others cannot, in either way, and nothing has changed", async () => {
    const owner = await newOwner(system);
    const admin = await newMember(system, owner, MemberRole.ADMIN);
    const asOwner = system.asUser(OrganizationService, owner.accessToken);
    const alone = await asOwner.createOrganization({ name: "Alone", slug: newSlug() });
    const { userId } = owner;
    assert.equal(await deleteMe({ ...owner, password: "not it" }), "BAD_CREDENTIALS");
    assert.equal(await deleteMe(owner), "LAST_OWNER");
    assert.equal(await answerOf(authOperator().deleteAccount({ userId })), "LAST_OWNER");
    assert.equal((await authOperator().getAccount({ userId })).account?.userId, userId);
    assert.equal((await asOwner.listMyOrganizations({})).organizations.length, 2);

    await owner.client.transferOwnership({ userId: admin.userId });
    assert.equal(await deleteMe(owner), "done");
    const { members } = await admin.client.listMembers({});
    assert.deepEqual(
      members.map((member) => member.userId),
      [admin.userId],
    );
    const { organizationId } = alone.organization!;
    assert.equal(await answerOf(operator().getOrganization({ organizationId })), "ORGANIZATION_NOT_FOUND");
    assert.equal(await answerOf(authOperator().deleteAccount({ userId })), "done", "once more");
  });

  test("a deletion that is refused, because the password was changed meanwhile, has ended no membership", async () => {
    const owner = await newOwner(system);
    const { organizationId, userId } = owner;
    const deleted = await inDatabase(system, "auth", async (sql) => {
      return sql.begin(async (tx) => {
        await tx`update credentials set version = version + 1 where account_id = ${userId}`;
        const deleted = deleteMe(owner);
        await until("the deletion to wait for the lock", async () => (await lockWaits(tx)) === 1);
        return { answer: deleted };
      });
    });
    assert.equal(await deleted.answer, "BAD_CREDENTIALS");
    assert.equal((await operator().getMembership({ organizationId, userId })).role, MemberRole.OWNER);
  });

  test("who deleted their account is a member of nothing, and does not become one by what was open", async () => {
    const owner = await newOwner(system);
    const [member, invited] = [await newMember(system, owner), await newVerifiedUser(system)];
    const { invitation } = await owner.client.inviteMember({ email: invited.email, role: MemberRole.MEMBER });
    for (const user of [member, invited]) assert.equal(await deleteMe(user), "done");
    const { invitationId } = invitation!;
    const accepted = system.asUser(OrganizationService, invited.accessToken).acceptInvitation({ invitationId });
    assert.equal(await answerOf(accepted), "UNAUTHENTICATED");
    const { members } = await owner.client.listMembers({});
    assert.deepEqual(
      members.map(({ userId }) => userId),
      [owner.userId],
    );
    await until("the tombstone", async () => {
      const { organizations } = await operator().listUserOrganizations({ userId: member.userId });
      return organizations.length === 0;
    });
  });
});

describe("an account that is deleted meanwhile", () => {
  const remove = (database: Awaited<ReturnType<typeof openTestDatabase>>, userId: string) =>
    transaction(database.jobDb, async (tx) => void (await emit(tx, await removeAccount(tx, userId))));

  test("what it leaves without an owner is suspended, what it leaves empty is deleted, and the rest goes on", async () => {
    await using database = await openTestDatabase();
    const { db, sql } = database;
    const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
    const [alone, orphaned, shared] = [await database.found(ann), await database.found(ann), await database.found(ann)];
    await database.put(orphaned, bob, "admin");
    await database.put(shared, bob, "owner");
    await remove(database, ann);
    await remove(database, ann);
    const rows = await sql`select id, status from organizations`;
    const statuses = Object.fromEntries(rows.map(({ id, status }) => [id, status]));
    assert.deepEqual(statuses, { [alone]: "deleted", [orphaned]: "suspended", [shared]: "active" });
    assert.deepEqual(await sql`select user_id from memberships where user_id = ${ann}`.then((found) => [...found]), []);
    const made = ["OrganizationCreated", "MemberChanged"];
    assert.deepEqual(await toldOf(sql, alone), [...made, "OrganizationChanged"]);
    assert.deepEqual(await toldOf(sql, orphaned), [...made, "MemberRemoved", "OrganizationChanged"]);
    assert.deepEqual(await toldOf(sql, shared), [...made, "MemberRemoved"]);
    const late = createOrganization(db, scope, { userId: ann }, { name: "Late", slug: newSlug() });
    assert.equal(await answerOf(late), "UNAUTHENTICATED");
  });

  test("two owners who go at once: one of them is the last", async () => {
    await using database = await openTestDatabase();
    for (let round = 0; round < 20; round++) {
      const [ann, bob, eve] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
      const organizationId = await database.found(ann);
      await database.put(organizationId, bob, "owner");
      await database.put(organizationId, eve, "member");
      const release = (userId: string) => answerOf(releaseUser(database.jobDb, scope, userId.toUpperCase()));
      assert.deepEqual((await Promise.all([release(ann), release(bob)])).sort(), ["LAST_OWNER", "done"]);
    }
  });

  test("a creation and the deletion at the same moment leave no organization of nobody", async () => {
    await using database = await openTestDatabase();
    const { db, sql } = database;
    for (let round = 0; round < 20; round++) {
      const userId = crypto.randomUUID();
      const make = () => answerOf(createOrganization(db, scope, { userId }, { name: "Bakery", slug: newSlug() }));
      const removing = () => remove(database, userId);
      await Promise.all(round % 2 ? [make(), removing()] : [removing(), make()]);
    }
    assert.equal((await sql`select 1 from memberships`).length, 0);
    assert.equal((await sql`select 1 from organizations where status <> 'deleted'`).length, 0);
  });
});
