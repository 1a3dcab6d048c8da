/** The sender as it runs, polling by itself, beside the services it needs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  NotificationInternalService,
  NotificationService,
  Platform,
  RecipientState,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { openDatabase } from "../../db/database.ts";
import { armFailpoint } from "../../failpoints.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { startTestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { auth } from "../auth/service.ts";
import { recipients } from "../notification/schema.ts";
import { notification } from "../notification/service.ts";
import { notificationSender } from "./service.ts";

const POLL_MS = 20;

function start() {
  return startTestSystem({
    definitions: [auth, notification, notificationSender],
    variables: { CONCIERGE_NOTIFICATION_SENDER_POLL_MS: String(POLL_MS) },
  });
}

test("from a notification to the device, the inbox and the ledger, without a hand", async () => {
  await using system = await start();
  const url = system.database("notification").runtimeUrl;
  await using database = openDatabase({ url, poolSize: 1, applicationName: "test" });
  const { db } = database;
  const { userId, accessToken } = await system.newUser();
  const client = system.asUser(NotificationService, accessToken);
  const backend = system.asService(NotificationInternalService, "backend", "notification");
  await client.registerDevice({ token: "phone", platform: Platform.ANDROID });
  const { notificationId } = await backend.createNotification({ title: "Hi", text: "hello", userIds: [userId] });
  const push = await until("the push", async () => (await system.pushes())[0]);
  assert.equal(push.token, "phone");
  assert.deepEqual(push.message.data, { notification_id: notificationId });
  const { notifications } = await client.listMyNotifications({});
  assert.deepEqual(
    notifications.map((entry) => entry.notificationId),
    [notificationId],
  );
  await client.markReceived({ notificationId });
  await until("the outcome", async () => {
    const [recipient] = await db.select().from(recipients);
    return recipient?.outcome === "sent";
  });
  const metrics = await (await fetch(`${system.internalUrl}/metrics`)).text();
  assert.match(metrics, /^# TYPE notification_pushes_total counter$/m);
  assert.match(metrics, /^notification_pushes_total\{result="sent"\} 1$/m);
  await system.advance(31_000);
  assert.deepEqual((await backend.listUnprocessed({})).notifications, []);
  assert.equal((await system.pushes()).length, 1);
});

test("nobody waits behind a push that takes long", async () => {
  await using system = await start();
  const backend = system.asService(NotificationInternalService, "backend", "notification");
  const newUser = async (token: string) => {
    const { userId, accessToken } = await system.newUser();
    await system.asUser(NotificationService, accessToken).registerDevice({ token, platform: Platform.ANDROID });
    return userId;
  };
  const push = async (userId: string, token: string) => {
    const { notificationId } = await backend.createNotification({ text: "hello", userIds: [userId] });
    await until(`a push to ${token}`, async () => (await system.pushes()).some((entry) => entry.token === token));
    return notificationId;
  };
  const stateOf = async (notificationId: string) =>
    (await backend.listRecipients({ notificationId })).recipients[0]!.state;
  const [ann, bob] = [await newUser("slow-4000-phone"), await newUser("phone")];
  const slow = await push(ann, "slow-4000-phone");
  const fast = await push(bob, "phone");
  await until("the second one is told of", async () => (await stateOf(fast)) === RecipientState.SENT);
  assert.equal(await stateOf(slow), RecipientState.PENDING);
});

test("the sender serves health and nothing else, and a failing run is logged once", async () => {
  await using system = await start();
  const { userId } = await system.newUser();
  const backend = system.asService(NotificationInternalService, "backend", "notification");
  assert.deepEqual(notificationSender.services, []);
  assert.equal((await fetch(`${system.internalUrl}/readyz`)).status, 200);
  const failures = () => system.logLines.filter(({ msg }) => msg === "job failed, will be tried again");
  {
    using _ = armFailpoint("sender.after_claim", "error");
    await backend.createNotification({ text: "one", userIds: [userId] });
    await until("the failure", () => failures()[0]);
  }
  await until("the recovery", () => system.logLines.find(({ msg }) => msg === "job runs again"));
  assert.equal(failures().length, 1);
});

test("R-NOT-06 when notification is back after an outage, what came meanwhile is pushed within 5 s", async () => {
  await using system = await startTestSystem({ definitions: [auth, notification] });
  const { hostname, port } = new URL(system.internalUrl);
  await using network = await startFaultProxy({ host: hostname, port: Number(port) });
  const url = { CONCIERGE_NOTIFICATION_SENDER_NOTIFICATION_URL: network.url };
  await using sender = await system.startReplica(url, [notificationSender]);
  await sender.ready;
  const { userId, accessToken } = await system.newUser();
  await system.asUser(NotificationService, accessToken).registerDevice({ token: "phone", platform: Platform.ANDROID });
  network.cut();
  await until("the failure", () => system.logLines.find(({ msg }) => msg === "job failed, will be tried again"));
  const backend = system.asService(NotificationInternalService, "backend", "notification");
  await backend.createNotification({ text: "one", userIds: [userId] });
  await network.heal();
  await until("the push", async () => (await system.pushes())[0], 5_000);
});
