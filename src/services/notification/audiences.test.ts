/** Whom a notification is for: asked of organization and access as they run. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import {
  type CreateNotificationRequest,
  NotificationInternalService,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { suspend } from "../../testing/memberships.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { access } from "../access/service.ts";
import { auth } from "../auth/service.ts";
import { organization } from "../organization/service.ts";
import { answerOf, inDatabase, newOwner, type TestMember } from "../organization/testing.ts";
import { user } from "../user/service.ts";
import { notification } from "./service.ts";
import { newIds } from "./testing.ts";

type Request = Partial<Omit<CreateNotificationRequest, "$typeName" | "$unknown">>;

describe("audiences", () => {
  let system: TestSystem;
  let owner: TestMember;
  let organizationId: string;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, organization, user, notification] });
  });

  after(() => system[Symbol.asyncDispose]());

  const create = (request: Request) =>
    system
      .asService(NotificationInternalService, "backend", "notification")
      .createNotification({ text: "hello", ...request });
  /** Those who have it, in order. */
  const told = async (request: Request) => {
    const { notificationId, recipients } = await create(request);
    const rows = await inDatabase(
      system,
      "notification",
      (sql) => sql`select user_id from recipients where notification_id = ${notificationId} order by user_id`,
    );
    assert.equal(recipients, rows.length);
    return rows.map((row) => String(row.user_id));
  };
  /** Makes members of an organization without a word. */
  const join = async (count: number) => {
    const userIds = newIds(count);
    await inDatabase(
      system,
      "organization",
      (sql) => sql`
        insert into memberships (organization_id, user_id, role)
        select ${organizationId}, value::uuid, 'member' from jsonb_array_elements_text(${JSON.stringify(userIds)}::text::jsonb)`,
    );
    return userIds;
  };
  const beginAnew = async () => {
    owner = await newOwner(system);
    organizationId = owner.organizationId;
  };

  test("users, those of a role, and all members, each of them once however a UUID is spelt", async () => {
    await beginAnew();
    const [ann, bob, cid] = (await join(3)) as [string, string, string];
    const roles = system.asMember(AccessService, owner, organizationId);
    await roles.createRole({ name: "cashier" });
    for (const userId of [ann, bob]) await roles.assignRole({ userId, role: "cashier" });
    assert.deepEqual(await told({ organizationId, userIds: [bob, bob.toUpperCase()] }), [bob]);
    assert.deepEqual(await told({ organizationId, role: "cashier" }), [ann, bob]);
    assert.deepEqual(await told({ organizationId: organizationId.toUpperCase(), role: "owner" }), [owner.userId]);
    assert.deepEqual(await told({ organizationId, userIds: [cid, bob], role: "cashier" }), [ann, bob, cid]);
    const all = [ann, bob, cid, owner.userId].sort();
    assert.deepEqual(await told({ organizationId, userIds: [ann], role: "cashier", allMembers: true }), all);
  });

  test("S-NOT-05 nobody is told in the name of an organization who is no member of it, nor of one that is not there", async () => {
    await beginAnew();
    const stranger = await newOwner(system);
    const [ann] = await join(1);
    const roles = system.asMember(AccessService, owner, organizationId);
    await roles.createRole({ name: "idle" });
    const answer = (request: Request) => answerOf(create({ organizationId, ...request }));
    assert.equal(await answer({ userIds: [ann!, stranger.userId] }), "MEMBER_NOT_FOUND");
    assert.equal(await answer({ userIds: [stranger.userId], allMembers: true }), "MEMBER_NOT_FOUND");
    assert.equal(await answer({ userIds: [ann!], organizationId: crypto.randomUUID() }), "ORGANIZATION_NOT_FOUND");
    assert.equal(await answer({ role: "nobody-knows-it" }), "ROLE_NOT_FOUND");
    assert.equal(await answer({ role: "idle" }), "NO_RECIPIENTS");
    assert.equal(await answer({ role: "idle", organizationId: "" }), "INVALID_REQUEST");
    assert.equal(await answer({}), "INVALID_REQUEST");
    await suspend({ system, owner, organizationId });
    assert.equal(await answer({ userIds: [ann!] }), "ORGANIZATION_SUSPENDED");
    assert.equal(await answer({ role: "owner" }), "ORGANIZATION_SUSPENDED");
  });

  test("S-NOT-05 10,000 members are told at once, and with one more nobody", async () => {
    await beginAnew();
    const userIds = await join(10_000);
    assert.equal((await create({ organizationId, userIds })).recipients, 10_000);
    assert.equal(await answerOf(create({ organizationId, userIds, role: "owner" })), "TOO_MANY_RECIPIENTS");
  });
});

test("nothing is stored while organization cannot be asked", async () => {
  await using system = await startTestSystem({ definitions: [auth, notification] });
  const backend = system.asService(NotificationInternalService, "backend", "notification");
  const request = { text: "hello", organizationId: crypto.randomUUID(), userIds: newIds(1) };
  assert.equal(await answerOf(backend.createNotification(request)), "DEPENDENCY_UNAVAILABLE");
  const rows = await inDatabase(system, "notification", (sql) => sql`select from notifications`);
  assert.equal(rows.length, 0);
});
