/** Creating notifications as backends and operators do: the running service, real clients, real databases. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code, type ConnectError } from "@connectrpc/connect";
import { eq } from "drizzle-orm";
import { NotificationCreatedSchema } from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import {
  type CreateNotificationRequest,
  NotificationInternalService,
  Priority,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { type Database, openDatabase } from "../../db/database.ts";
import { reasonOf } from "../../errors.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { access } from "../access/service.ts";
import { auth } from "../auth/service.ts";
import { organization } from "../organization/service.ts";
import { answerOf, newMember, newOwner } from "../organization/testing.ts";
import { user } from "../user/service.ts";
import { queueOf } from "./notifications.ts";
import { deliveries, notifications, recipients } from "./schema.ts";
import { notification } from "./service.ts";
import { newIds } from "./testing.ts";

type Request = Partial<Omit<CreateNotificationRequest, "$typeName" | "$unknown">>;

/** Rounded: the database looks at its clock for each. */
const secondsFrom = (start: Date, end: Date) => Math.round((end.getTime() - start.getTime()) / 1_000);

describe("notifications", () => {
  let system: TestSystem;
  let database: Database;

  before(async () => {
    const variables = { CONCIERGE_NOTIFICATION_RECIPIENTS_PER_MINUTE: "6000" };
    const definitions = [auth, access, organization, user, notification];
    system = await startTestSystem({ definitions, variables });
    const url = system.database("notification").runtimeUrl;
    database = openDatabase({ url, poolSize: 2, applicationName: "test" });
  });

  after(async () => {
    await database[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  const as = (caller: string) => system.asService(NotificationInternalService, caller, "notification");
  const create = (request: Request, caller = "backend") => as(caller).createNotification({ text: "hello", ...request });
  const storedAs = async (id: string) =>
    (await database.db.select().from(notifications).where(eq(notifications.id, id)))[0]!;
  const deliveriesOf = (id: string) =>
    database.db.select().from(deliveries).where(eq(deliveries.notificationId, id)).orderBy(deliveries.userId);
  const countOf = (id: string) => database.db.$count(recipients, eq(recipients.notificationId, id));

  test("everything that is said is stored as it was said, with a delivery in the organization's queue", async () => {
    const { organizationId, userId } = await newOwner(system);
    const said = { title: "Hi", data: { order: "42" }, topic: "orders.new", organizationId };
    const request = { ...said, userIds: [userId], priority: Priority.HIGH, ttlSeconds: 60 };
    const traceId = "0af7651916cd43dd8448eb211c80319c";
    const headers = { traceparent: `00-${traceId}-b7ad6b7169203331-01` };
    const { notificationId } = await as("backend").createNotification({ text: "hello", ...request }, { headers });
    const { createdAt, expiresAt, traceparent, ...row } = await storedAs(notificationId);
    const rest = {
      id: notificationId,
      author: "backend backend",
      idempotencyKey: null,
      requestDigest: null,
      cancelledAt: null,
    };
    assert.deepEqual(row, { ...said, ...rest, text: "hello", priority: "high" });
    assert.equal(secondsFrom(createdAt, expiresAt), 60);
    assert.equal(traceparent.split("-")[1], traceId);
    const [delivery] = await deliveriesOf(notificationId);
    const waiting = { queue: organizationId, rank: 0, claims: 0, failedTries: 0, leaseOwner: null, leaseToken: null };
    assert.deepEqual(delivery, { notificationId, userId, ...waiting, createdAt, availableAt: createdAt });
  });

  test("what is not said: no organization, normal priority, 28 days", async () => {
    const userIds = newIds(3);
    const { notificationId, recipients: told } = await create({ userIds });
    assert.equal(told, 3);
    const { organizationId, priority, topic, title, createdAt, expiresAt } = await storedAs(notificationId);
    assert.deepEqual([organizationId, priority, topic, title], [null, "normal", "", ""]);
    assert.equal(secondsFrom(createdAt, expiresAt), 28 * 86_400);
    const work = await deliveriesOf(notificationId);
    const queue = queueOf({ organizationId: "", author: "backend backend" });
    assert.deepEqual(
      work.map(({ userId, queue, rank }) => [userId, queue, rank]),
      userIds.map((userId) => [userId, queue, 1]),
    );
  });

  test("S-NOT-03 a backend cancels and looks into what it has created itself, and an operator everything", async () => {
    const { notificationId: foreign } = await create({ userIds: newIds(1) }, "operator");
    const { notificationId: own } = await create({ userIds: newIds(1) });
    const isHidden = (error: unknown) =>
      (error as ConnectError).code === Code.NotFound && reasonOf(error) === "NOTIFICATION_NOT_FOUND";
    await assert.rejects(as("backend").cancelNotification({ notificationId: foreign }), isHidden);
    await assert.rejects(as("backend").listRecipients({ notificationId: foreign }), isHidden);
    for (const [caller, notificationId] of [
      ["backend", own],
      ["operator", foreign],
    ] as const) {
      assert.equal((await as(caller).listRecipients({ notificationId })).recipients.length, 1);
      assert.equal((await as(caller).cancelNotification({ notificationId })).cancelled, 1);
    }
    const { notificationId: other } = await create({ userIds: newIds(1) });
    assert.equal((await as("operator").listRecipients({ notificationId: other })).recipients.length, 1);
    assert.equal((await as("operator").cancelNotification({ notificationId: other })).cancelled, 1);
  });

  test("S-NOT-03 a person reaches no internal method", async () => {
    const { accessToken } = await system.newUser();
    const outside = system.asUser(NotificationInternalService, accessToken);
    const creating = outside.createNotification({ text: "hello", userIds: newIds(1) });
    await assert.rejects(creating, (error) => (error as ConnectError).code === Code.Unimplemented);
    const headers = { authorization: `Bearer ${accessToken}`, "content-type": "application/json" };
    for (const method of NotificationInternalService.methods) {
      for (const [url, status] of [
        [system.publicUrl, 404],
        [system.internalUrl, 401],
      ] as const) {
        const address = `${url}/${NotificationInternalService.typeName}/${method.name}`;
        const response = await fetch(address, { method: "POST", headers, body: "{}" });
        assert.equal(response.status, status, `${method.name} at ${url}`);
        await response.body?.cancel();
      }
    }
  });

  test("S-NOT-05 whom it is for: nobody, more than 10,000, what is no id, and one spelt twice", async () => {
    const [ann] = newIds(1) as [string];
    for (const userIds of [[], newIds(10_001), ["ann"], [ann, ann]]) {
      assert.equal(await answerOf(create({ userIds })), "INVALID_REQUEST", `${userIds.length} ids`);
    }
    const { notificationId, recipients: told } = await create({ userIds: [ann, ann.toUpperCase()] });
    assert.equal(told, 1);
    assert.equal(await countOf(notificationId), 1);
  });

  test("S-NOT-07 what FCM would refuse for its size is refused at once, counted in bytes", async () => {
    // 4,096 less 51 for the notification's id: title 200, data 10 + 1,000 + 4 + 1,024, text the rest.
    const data = { long_key_1: "x".repeat(1_000), more: "y".repeat(1_024) };
    const rest = { title: "é".repeat(100), data, userIds: newIds(1) };
    const { notificationId } = await create({ ...rest, text: "t".repeat(1_807) });
    assert.equal((await storedAs(notificationId)).text.length, 1_807);
    for (const text of ["t".repeat(1_808), "é".repeat(904), "t".repeat(5_000)]) {
      assert.equal(await answerOf(create({ ...rest, text })), "INVALID_REQUEST");
    }
    assert.equal(await answerOf(create({ userIds: newIds(1), data: { from: "x" } })), "INVALID_REQUEST");
  });

  test("S-NOT-07 control characters, right-to-left marks and braces are said literally", async () => {
    const said = { title: "Hi {{name}}", text: "\u202e<b>%s</b>\u0007 $(x)\r\n", data: { note: "\u2066{0}\u0001" } };
    const { notificationId } = await create({ ...said, userIds: newIds(1) });
    const { title, text, data } = await storedAs(notificationId);
    assert.deepEqual({ title, text, data }, said);
  });

  test("the same call again, also 50 at once, is one notification; another caller's is another one", async () => {
    const userIds = newIds(3);
    const request = { userIds, data: { one: "1", two: "2" }, idempotencyKey: crypto.randomUUID() };
    const answers = await Promise.all(Array.from({ length: 50 }, () => create(request)));
    const [{ notificationId }] = answers as [(typeof answers)[0]];
    assert.deepEqual(new Set(answers.map((answer) => `${answer.notificationId} ${answer.recipients}`)).size, 1);
    assert.equal(await countOf(notificationId), 3);
    const isCreated = eq(feedOutbox.subject, `notification/${notificationId}`);
    const told = await database.db.select().from(feedOutbox).where(isCreated);
    assert.deepEqual(
      told.map(({ type }) => type),
      [NotificationCreatedSchema.typeName],
    );
    const again = { ...request, userIds: userIds.toReversed(), data: { two: "2", one: "1" } };
    assert.deepEqual(await create(again), answers[0]);
    assert.notEqual((await create(request, "operator")).notificationId, notificationId);
  });

  test("a key that was used for another request is refused", async () => {
    const request = { userIds: newIds(2), idempotencyKey: crypto.randomUUID() };
    await create(request);
    for (const other of [{ text: "other" }, { userIds: newIds(2) }, { ttlSeconds: 1 }, { data: { one: "1" } }]) {
      const refused = create({ ...request, ...other });
      await assert.rejects(refused, (error) => {
        assert.equal(reasonOf(error), "IDEMPOTENCY_KEY_REUSED");
        return (error as ConnectError).code === Code.AlreadyExists;
      });
    }
  });

  test("a key stands for whom it was for then, whoever has come or gone since", async () => {
    const owner = await newOwner(system);
    const { organizationId } = owner;
    const ann = await newMember(system, owner);
    const toAll = { organizationId, allMembers: true, idempotencyKey: crypto.randomUUID() };
    const toAnn = { organizationId, userIds: [ann.userId], idempotencyKey: crypto.randomUUID() };
    const answers = [await create(toAll), await create(toAnn)];
    assert.equal(answers[0]!.recipients, 2);
    await owner.client.removeMember({ userId: ann.userId });
    assert.deepEqual([await create(toAll), await create(toAnn)], answers);
    assert.equal(await answerOf(create({ ...toAnn, idempotencyKey: "" })), "MEMBER_NOT_FOUND");
  });

  test("S-NOT-12 who floods is refused and told until when; others go on, and so does what was created before", async () => {
    const owner = await newOwner(system);
    const { organizationId, userId } = owner;
    const before = { userIds: newIds(1), idempotencyKey: crypto.randomUUID() };
    const known = await create(before, "operator");
    const flood = Array.from({ length: 3 }, () => create({ userIds: newIds(6_000) }, "operator"));
    const answers = await Promise.allSettled(flood);
    const errors = answers.flatMap((answer) => (answer.status === "rejected" ? [answer.reason as ConnectError] : []));
    // 12,000 in a burst.
    assert.deepEqual(errors.map(reasonOf), ["TOO_MANY_NOTIFICATIONS"]);
    const [retry] = errors[0]!.findDetails(RetryInfoSchema);
    const waitMs = Number(retry!.retryDelay!.seconds) * 1_000 + retry!.retryDelay!.nanos / 1e6;
    assert.ok(waitMs > 0 && waitMs <= 60_000, `${waitMs} ms`);
    assert.deepEqual(await create(before, "operator"), known);
    assert.equal((await create({ organizationId, userIds: [userId] }, "operator")).recipients, 1);
    assert.equal((await create({ userIds: newIds(6_000) })).recipients, 6_000);
    await system.advance(waitMs);
    assert.equal((await create({ userIds: newIds(6_000) }, "operator")).recipients, 6_000);
  });
});
