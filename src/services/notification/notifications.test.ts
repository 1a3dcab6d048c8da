/** notification as its callers see it: the running service with auth beside it, real clients, real databases. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { eq } from "drizzle-orm";
import {
  NotificationCreatedSchema,
  NotificationReceivedSchema,
} from "../../../gen/concierge/notification/v1/notification_events_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { openDatabase } from "../../db/database.ts";
import { type Reason, reasonOf } from "../../errors.ts";
import { feedOutbox } from "../../feed/schema.ts";
import { startTestSystem, type TestSystem } from "../../testing/system.ts";
import { auth } from "../auth/service.ts";
import { notification } from "./service.ts";

const start = () => startTestSystem({ definitions: [auth, notification] });
const asBackend = (system: TestSystem) => system.asService(NotificationInternalService, "backend", "notification");
const newIds = (count: number) => Array.from({ length: count }, () => crypto.randomUUID());

function refused(code: Code, reason: Reason) {
  return (error: unknown) => {
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([Code[error.code], reasonOf(error)], [Code[code], reason]);
    return true;
  };
}

async function newReader(system: TestSystem) {
  const { userId, accessToken } = await system.newUser();
  return { userId, client: system.asUser(NotificationService, accessToken) };
}

async function notify(system: TestSystem, userIds: string[], text = "hello"): Promise<string> {
  return (await asBackend(system).createNotification({ text, userIds })).notificationId;
}

async function countEvents(system: TestSystem, type: string): Promise<number> {
  const url = system.database("notification").runtimeUrl;
  await using database = openDatabase({ url, poolSize: 1, applicationName: "test" });
  return await database.db.$count(feedOutbox, eq(feedOutbox.type, type));
}

async function allPages(client: Client<typeof NotificationService>, pageSize: number) {
  const pages: string[][] = [];
  for (let pageToken = ""; ; ) {
    const page = await client.listMyNotifications({ pageSize, pageToken });
    pages.push(page.notifications.map(({ text }) => text));
    pageToken = page.nextPageToken;
    if (pageToken === "") return pages;
  }
}

test("an inbox holds one's own notifications, newest first, page by page", async () => {
  await using system = await start();
  const [ann, bob] = await Promise.all([newReader(system), newReader(system)]);
  for (const text of ["1", "2", "3", "4", "5"]) await notify(system, [ann.userId, bob.userId], text);
  await notify(system, [bob.userId], "6");
  assert.deepEqual(await allPages(ann.client, 2), [["5", "4"], ["3", "2"], ["1"]]);
  assert.deepEqual(await allPages(ann.client, 5), [["5", "4", "3", "2", "1"]]);
  assert.deepEqual(await allPages(bob.client, 0), [["6", "5", "4", "3", "2", "1"]]);

  const title = "Hi {{name}}";
  const text = "\u202e<b>%s</b>\u0007";
  const data = { order: "42" };
  const { notificationId } = await asBackend(system).createNotification({ title, text, data, userIds: [ann.userId] });
  const [entry] = (await ann.client.listMyNotifications({ pageSize: 1 })).notifications;
  assert.ok(entry?.createdAt);
  assert.deepEqual(
    { ...entry, $typeName: undefined, createdAt: undefined },
    { $typeName: undefined, notificationId, title, text, data, createdAt: undefined },
  );
});

test("S-API-12 a page has 50 entries unless asked for fewer or more, 100 at most; less than none is refused", async () => {
  await using system = await start();
  const { userId, client } = await newReader(system);
  for (let count = 0; count < 101; count++) await notify(system, [userId]);
  const sizes = async (pageSize: number) => (await allPages(client, pageSize)).map(({ length }) => length);
  assert.deepEqual(await sizes(0), [50, 50, 1]);
  assert.deepEqual(await sizes(51), [51, 50]);
  for (const pageSize of [100, 101, 2 ** 31 - 1]) assert.deepEqual(await sizes(pageSize), [100, 1], String(pageSize));
  for (const pageSize of [-1, -(2 ** 31)]) {
    const listing = () => client.listMyNotifications({ pageSize });
    await assert.rejects(listing, refused(Code.InvalidArgument, "INVALID_REQUEST"), String(pageSize));
  }
});

test("a page token that this method did not give is refused", async () => {
  await using system = await start();
  const { client } = await newReader(system);
  const id = crypto.randomUUID();
  const encode = (text: string) => Buffer.from(text).toString("base64url");
  for (const pageToken of ["x", id, encode("x"), `${encode(id)}=`, `${encode(id)}A`, encode(`${id} `)]) {
    const listing = () => client.listMyNotifications({ pageToken });
    await assert.rejects(listing, refused(Code.InvalidArgument, "INVALID_PAGE_TOKEN"), pageToken);
  }
  assert.deepEqual((await client.listMyNotifications({ pageToken: encode(id) })).notifications, []);
});

test("S-NOT-01 somebody else's notification and one that does not exist are told apart by nothing", async () => {
  await using system = await start();
  const [ann, bob] = await Promise.all([newReader(system), newReader(system)]);
  const notificationId = await notify(system, [ann.userId]);
  const answers: unknown[] = [];
  for (const id of [notificationId, crypto.randomUUID()]) {
    await assert.rejects(
      () => bob.client.markReceived({ notificationId: id }),
      (error) => {
        refused(Code.NotFound, "NOTIFICATION_NOT_FOUND")(error);
        const { code, rawMessage, details } = error as ConnectError;
        answers.push({ code, rawMessage, details });
        return true;
      },
    );
  }
  assert.deepEqual(answers[0], answers[1]);
  const [entry] = (await ann.client.listMyNotifications({})).notifications;
  assert.equal(entry?.receivedAt, undefined);
  assert.equal(await countEvents(system, NotificationReceivedSchema.typeName), 0);
});

test("S-NOT-02 marked received by 100 calls at once: one time, one event", async () => {
  await using system = await start();
  const { userId, client } = await newReader(system);
  const notificationId = await notify(system, [userId]);
  const calls = Array.from({ length: 100 }, (_, index) =>
    client.markReceived({ notificationId: index % 2 === 0 ? notificationId : notificationId.toUpperCase() }),
  );
  const times = (await Promise.all(calls)).map(({ receivedAt }) => `${receivedAt?.seconds}.${receivedAt?.nanos}`);
  assert.equal(new Set(times).size, 1);
  await system.advance(60_000);
  const { receivedAt } = await client.markReceived({ notificationId });
  assert.equal(`${receivedAt?.seconds}.${receivedAt?.nanos}`, times[0]);
  const [entry] = (await client.listMyNotifications({})).notifications;
  assert.deepEqual(entry?.receivedAt, receivedAt);
  assert.equal(await countEvents(system, NotificationReceivedSchema.typeName), 1);
});

test("S-NOT-03 a person reaches no internal method", async () => {
  await using system = await start();
  const { accessToken, userId } = await system.newUser();
  const outside = system.asUser(NotificationInternalService, accessToken);
  for (const call of [
    () => outside.listUnprocessed({}),
    () => outside.claim({}),
    () => outside.markProcessed({ notificationIds: newIds(1) }),
    () => outside.createNotification({ text: "hello", userIds: [userId] }),
  ]) {
    await assert.rejects(call, (error) => (error as ConnectError).code === Code.Unimplemented);
  }
  const headers = { authorization: `Bearer ${accessToken}`, "content-type": "application/json" };
  for (const method of NotificationInternalService.methods) {
    const url = `${system.internalUrl}/${NotificationInternalService.typeName}/${method.name}`;
    const response = await fetch(url, { method: "POST", headers, body: "{}" });
    assert.equal(response.status, 401, method.name);
    await response.body?.cancel();
  }
});

test("S-NOT-04 more than fits in one MarkProcessed is refused, and a lease is its caller's alone", async () => {
  await using system = await start();
  const backend = asBackend(system);
  const operator = system.asService(NotificationInternalService, "operator", "notification");
  const invalid = refused(Code.InvalidArgument, "INVALID_REQUEST");
  await assert.rejects(() => backend.markProcessed({ notificationIds: newIds(10_001) }), invalid);
  await assert.rejects(() => backend.markProcessed({ deadDeviceIds: newIds(10_001) }), invalid);
  await assert.rejects(() => backend.markProcessed({ leaseToken: "not a UUID" }), invalid);

  const notificationId = await notify(system, newIds(3));
  const { notifications } = await backend.listUnprocessed({});
  assert.equal(notifications[0]?.userIds.length, 3);
  const marking = () => operator.markProcessed({ notificationIds: [notificationId] });
  await assert.rejects(marking, refused(Code.Aborted, "LEASE_LOST"));
  assert.equal((await backend.markProcessed({ notificationIds: [notificationId, notificationId] })).marked, 3);
  assert.equal((await backend.markProcessed({ notificationIds: [notificationId] })).marked, 0);
});

test("S-NOT-07 what FCM would refuse for its size is refused at once, counted in bytes", async () => {
  await using system = await start();
  const backend = asBackend(system);
  const userIds = newIds(1);
  // 4,096 less 51 for the notification's id: title 200, data 10 + 1,000 + 4 + 1,024, text the rest.
  const rest = { title: "é".repeat(100), data: { long_key_1: "x".repeat(1_000), more: "y".repeat(1_024) }, userIds };
  await backend.createNotification({ ...rest, text: "t".repeat(1_807) });
  const tooLong = () => backend.createNotification({ ...rest, text: "t".repeat(1_808) });
  await assert.rejects(tooLong, refused(Code.InvalidArgument, "INVALID_REQUEST"));
  const multibyte = () => backend.createNotification({ ...rest, text: "é".repeat(904) });
  await assert.rejects(multibyte, refused(Code.InvalidArgument, "INVALID_REQUEST"));
  assert.equal((await backend.claim({})).notifications.length, 1);
});

test("recipients: none, 10,000, more, and one spelt twice", async () => {
  await using system = await start();
  const backend = asBackend(system);
  const invalid = refused(Code.InvalidArgument, "INVALID_REQUEST");
  await assert.rejects(() => notify(system, []), invalid);
  await assert.rejects(() => notify(system, newIds(10_001)), invalid);
  await assert.rejects(() => notify(system, ["ann"]), invalid);
  await assert.rejects(
    () => backend.createNotification({ text: "hello", data: { from: "x" }, userIds: newIds(1) }),
    invalid,
  );
  const [ann] = newIds(1) as [string];
  await assert.rejects(() => notify(system, [ann, ann]), invalid);
  await notify(system, [ann, ann.toUpperCase()]);
  assert.deepEqual(
    (await backend.claim({})).notifications[0]?.recipients.map(({ userId }) => userId),
    [ann],
  );
  await notify(system, newIds(10_000));
  assert.equal((await backend.listUnprocessed({})).notifications[0]?.userIds.length, 10_000);
  assert.equal(await countEvents(system, NotificationCreatedSchema.typeName), 2);
});

test("a device is registered for its user and moves with the next one", async () => {
  await using system = await start();
  const [ann, bob] = await Promise.all([newReader(system), newReader(system)]);
  const backend = asBackend(system);
  const { deviceId } = await ann.client.registerDevice({ token: "phone", platform: Platform.IOS });
  assert.equal((await bob.client.registerDevice({ token: "phone", platform: Platform.WEB })).deviceId, deviceId);
  await notify(system, [ann.userId, bob.userId]);
  const { notifications } = await backend.claim({});
  const devices = Object.fromEntries(
    notifications[0]!.recipients.map((recipient) => [
      recipient.userId,
      recipient.devices.map((device) => [device.deviceId, device.token]),
    ]),
  );
  assert.deepEqual(devices, { [ann.userId]: [], [bob.userId]: [[deviceId, "phone"]] });
  const unspecified = () => ann.client.registerDevice({ token: "phone", platform: Platform.UNSPECIFIED });
  await assert.rejects(unspecified, refused(Code.InvalidArgument, "INVALID_REQUEST"));
  await assert.rejects(
    () => ann.client.registerDevice({ token: "phone", platform: 77 as Platform }),
    refused(Code.InvalidArgument, "INVALID_REQUEST"),
  );
});
