/** A person's own methods as clients see them: the running services, every protocol, and what a browser sends. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
  Priority,
  type WatchMyNotificationsResponse,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { reasonOf } from "../../errors.ts";
import type { RunningServer } from "../../server.ts";
import { allWays, openClient, wayName } from "../../testing/clients.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { FRAME_HEADER_BYTES, frameMessage } from "../../testing/wire.ts";
import { access } from "../access/service.ts";
import { auth } from "../auth/service.ts";
import { organization } from "../organization/service.ts";
import { answerOf } from "../organization/testing.ts";
import { user } from "../user/service.ts";
import { notification } from "./service.ts";

const TOKEN_LIFE_MS = 300_000;

/** Reads a stream until it ends. */
function follow(stream: AsyncIterable<WatchMyNotificationsResponse>) {
  const messages: WatchMyNotificationsResponse[] = [];
  const over = (async () => {
    for await (const message of stream) messages.push(message);
  })().catch((error: unknown) => ConnectError.from(error));
  return { messages, over };
}

async function begun(stream: AsyncIterable<WatchMyNotificationsResponse>) {
  const followed = follow(stream);
  await until("the stream begins", () => followed.messages.length > 0);
  return followed;
}

async function endOf({ over }: ReturnType<typeof follow>): Promise<string> {
  const error = await over;
  assert.ok(error, "it ended without an error");
  return `${Code[error.code]} ${reasonOf(error)}`;
}

describe("people", () => {
  let system: TestSystem;

  before(async () => {
    system = await startTestSystem({ definitions: [auth, access, organization, user, notification] });
  });

  after(() => system[Symbol.asyncDispose]());

  const clientOf = ({ accessToken }: TestUser) => system.asUser(NotificationService, accessToken);
  const create = (userId: string, text: string) =>
    system
      .asService(NotificationInternalService, "backend", "notification")
      .createNotification({ text, title: "Hi", topic: "news", priority: Priority.HIGH, userIds: [userId] });
  const watch = (person: TestUser, server: RunningServer = system.server, options?: CallOptions) => {
    const bearer = ["authorization", `Bearer ${person.accessToken}`] as const;
    const opened = openClient<Client<typeof NotificationService>>(
      NotificationService,
      { protocol: "connect", http: "1.1" },
      server.publicUrl,
      [bearer],
    );
    return begun(opened.client.watchMyNotifications({}, options));
  };

  test("list, count and mark their notifications", async () => {
    const ann = await system.newUser();
    const client = clientOf(ann);
    const { notificationId } = await create(ann.userId, "hello");
    assert.deepEqual(await client.countUnread({}).then(({ count, isMore }) => [count, isMore]), [1, false]);
    await client.markRead({ notificationIds: [notificationId] });
    const { receivedAt } = await client.markReceived({ notificationId });
    assert.equal((await client.countUnread({})).count, 0);
    assert.deepEqual((await client.listMyNotifications({ unreadOnly: true })).notifications, []);
    const { notifications, nextPageToken } = await client.listMyNotifications({});
    const [{ $typeName: _, createdAt, readAt, ...entry } = assert.fail()] = notifications;
    assert.ok(createdAt);
    assert.deepEqual(readAt, receivedAt);
    const said = { title: "Hi", text: "hello", data: {}, topic: "news", organizationId: "", priority: Priority.HIGH };
    assert.deepEqual([entry, nextPageToken], [{ notificationId, receivedAt, ...said }, ""]);
    for (const pageSize of [-1, -(2 ** 31)]) {
      assert.equal(await answerOf(client.listMyNotifications({ pageSize })), "INVALID_REQUEST", "S-API-12");
    }
    const ids = (count: number) => Array.from({ length: count }, () => crypto.randomUUID());
    for (const count of [0, 101]) {
      assert.equal(await answerOf(client.markRead({ notificationIds: ids(count) })), "INVALID_REQUEST");
    }
    assert.equal(await answerOf(client.markRead({ notificationIds: ids(100) })), "NOTIFICATION_NOT_FOUND");
  });

  test("register, list and remove devices, and mute topics", async () => {
    const client = clientOf(await system.newUser());
    const { deviceId } = await client.registerDevice({ token: "token of the phone", platform: Platform.IOS });
    const [{ createdAt, lastSeenAt, ...device } = assert.fail()] = (await client.listMyDevices({})).devices;
    assert.ok(createdAt && lastSeenAt);
    assert.deepEqual([device.deviceId, device.platform, device.tokenEnd], [deviceId, Platform.IOS, "he phone"]);
    for (const platform of [Platform.UNSPECIFIED, 77 as Platform]) {
      assert.equal(await answerOf(client.registerDevice({ token: "x", platform })), "INVALID_REQUEST");
    }
    await client.removeDevice({ deviceId });
    assert.equal(await answerOf(client.removeDevice({ deviceId })), "DEVICE_NOT_FOUND");
    await client.muteTopic({ topic: "news" });
    assert.deepEqual((await client.listMutedTopics({})).topics, ["news"]);
    await client.unmuteTopic({ topic: "news" });
    assert.deepEqual((await client.listMutedTopics({})).topics, []);
    assert.equal(await answerOf(client.muteTopic({ topic: "No topic" })), "INVALID_REQUEST");
  });

  test("watch their inbox in every protocol, from the start and from a cursor", async () => {
    const ann = await system.newUser();
    const bearer = ["authorization", `Bearer ${ann.accessToken}`] as const;
    for (const way of allWays) {
      using opened = openClient<Client<typeof NotificationService>>(NotificationService, way, system.publicUrl, [
        bearer,
      ]);
      const leaving = new AbortController();
      const first = await begun(opened.client.watchMyNotifications({}, { signal: leaving.signal }));
      assert.deepEqual([first.messages[0]?.change.case, first.messages.length], [undefined, 1], wayName(way));
      const { notificationId } = await create(ann.userId, wayName(way));
      await until("it is told", () => first.messages.length === 2);
      const { change } = first.messages[1]!;
      assert.deepEqual(change.value, (await clientOf(ann).listMyNotifications({ pageSize: 1 })).notifications[0]);
      const { cursor } = first.messages[0]!;
      const second = await begun(opened.client.watchMyNotifications({ cursor }, { signal: leaving.signal }));
      await until("it is told again", () => second.messages.length === 2);
      assert.deepEqual(second.messages[1]?.change, change, notificationId);
      const refused = await endOf(follow(opened.client.watchMyNotifications({ cursor: "x" })));
      assert.equal(refused, "InvalidArgument INVALID_CURSOR", wayName(way));
      leaving.abort();
      await Promise.all([first.over, second.over]);
    }
  });

  test("watch their inbox from a browser: JSON over HTTP/1.1, beginning at once", async () => {
    const ann = await system.newUser();
    const leaving = new AbortController();
    const response = await fetch(`${system.publicUrl}/${NotificationService.typeName}/WatchMyNotifications`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${ann.accessToken}`,
        "content-type": "application/connect+json",
        "connect-protocol-version": "1",
      },
      body: Uint8Array.from(frameMessage(Buffer.from("{}"))),
      signal: leaving.signal,
    });
    assert.deepEqual([response.status, response.headers.get("content-type")], [200, "application/connect+json"]);
    const texts = messagesIn(response.body!);
    const { value: start } = await texts.next();
    assert.deepEqual(Object.keys(start!), ["cursor"]);
    await create(ann.userId, "hello");
    const { value: told } = await texts.next();
    assert.equal((told!.notification as { text: string }).text, "hello");
    leaving.abort();
  });

  test("lose their streams with the access token, the session and the server", async () => {
    const [ann, bob, cid] = [await system.newUser(), await system.newUser(), await system.newUser()];
    await using replica = await system.startReplica();
    await replica.ready;
    const [his, theirs] = [await watch(bob), await watch(cid, replica)];
    await system.asUser(AuthService).logout({ refreshToken: bob.refreshToken });
    assert.equal(await endOf(his), "Unauthenticated UNAUTHENTICATED");
    await replica[Symbol.asyncDispose]();
    assert.equal(await endOf(theirs), "Unavailable DRAINING");
    await system.advance(TOKEN_LIFE_MS - 3_000);
    assert.equal(await endOf(await watch(ann)), "Unauthenticated TOKEN_EXPIRED");
  });
});

/** The messages of a Connect stream in JSON, as they come. */
async function* messagesIn(body: AsyncIterable<Uint8Array>): AsyncGenerator<Record<string, unknown>> {
  let bytes = Buffer.alloc(0);
  for await (const chunk of body) {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= FRAME_HEADER_BYTES && bytes.length >= FRAME_HEADER_BYTES + bytes.readUInt32BE(1)) {
      const end = FRAME_HEADER_BYTES + bytes.readUInt32BE(1);
      yield JSON.parse(bytes.toString("utf8", FRAME_HEADER_BYTES, end));
      bytes = bytes.subarray(end);
    }
  }
}
