/** The work list as senders and operators see it: the running service, real clients, a real database. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  NotificationInternalService,
  NotificationService,
  Outcome,
  Platform,
  Priority,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { type Reason, reasonOf } from "../../errors.ts";
import { startTestSystem } from "../../testing/system.ts";
import { auth } from "../auth/service.ts";
import { notification } from "./service.ts";
import { newIds } from "./testing.ts";

async function start() {
  const system = await startTestSystem({ definitions: [auth, notification] });
  const as = (caller: string) => system.asService(NotificationInternalService, caller, "notification");
  return {
    system,
    backend: as("backend"),
    operator: as("operator"),
    [Symbol.asyncDispose]: () => system[Symbol.asyncDispose](),
  };
}

function refused(code: Code, reason: Reason) {
  return (error: unknown) => {
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([Code[error.code], reasonOf(error)], [Code[code], reason]);
    return true;
  };
}

test("S-NOT-04 more than fits in one MarkProcessed is refused, and a lease is its caller's alone", async () => {
  await using started = await start();
  const { backend, operator } = started;
  const invalid = refused(Code.InvalidArgument, "INVALID_REQUEST");
  await assert.rejects(backend.markProcessed({ notificationIds: newIds(10_001) }), invalid);
  await assert.rejects(backend.markProcessed({ deadDeviceIds: newIds(10_001) }), invalid);
  await assert.rejects(backend.markProcessed({ leaseToken: "not a UUID" }), invalid);

  const { notificationId } = await backend.createNotification({ text: "hello", userIds: newIds(3) });
  const { notifications } = await backend.listUnprocessed({});
  assert.equal(notifications[0]?.userIds.length, 3);
  const marking = operator.markProcessed({ notificationIds: [notificationId] });
  await assert.rejects(marking, refused(Code.Aborted, "LEASE_LOST"));
  assert.equal((await backend.markProcessed({ notificationIds: [notificationId, notificationId] })).marked, 3);
  assert.equal((await backend.markProcessed({ notificationIds: [notificationId] })).marked, 0);
});

test("a recipient on its way through the work list: claimed, tried, given up, redriven, sent", async () => {
  await using started = await start();
  const { system, backend, operator } = started;
  const { userId, accessToken } = await system.newUser();
  const { deviceId } = await system
    .asUser(NotificationService, accessToken)
    .registerDevice({ token: "phone", platform: Platform.IOS });
  const said = { title: "Hi", text: "hello", data: { order: "42" } };
  const { notificationId } = await backend.createNotification({ ...said, userIds: [userId] });
  const recipient = { notificationId, userId };

  const claimed = await backend.claim({ leaseSeconds: 60 });
  const { leaseToken, notifications } = claimed;
  const { title, text, data, userIds, priority, expiresAt } = notifications[0]!;
  assert.deepEqual([{ title, text, data }, userIds, priority], [said, [userId], Priority.NORMAL]);
  assert.ok(expiresAt && claimed.leaseExpiresAt && expiresAt.seconds > claimed.leaseExpiresAt.seconds);
  const extended = await backend.extendLease({ leaseToken, leaseSeconds: 300 });
  assert.ok(extended.leaseExpiresAt!.seconds > claimed.leaseExpiresAt.seconds + 200n);
  const devices = extended.recipients.map(({ devices }) => devices.map(({ deviceId, token }) => ({ deviceId, token })));
  assert.deepEqual(devices, [[{ deviceId, token: "phone" }]]);
  const stolen = operator.markProcessed({ leaseToken, outcomes: [{ ...recipient, outcome: Outcome.SENT }] });
  await assert.rejects(stolen, refused(Code.Aborted, "LEASE_LOST"));

  const retry = { ...recipient, outcome: Outcome.RETRY, retryAfterSeconds: 30, code: "messaging/internal-error" };
  assert.equal((await backend.markProcessed({ leaseToken, outcomes: [retry] })).marked, 0);
  await assert.rejects(backend.extendLease({ leaseToken }), refused(Code.Aborted, "LEASE_LOST"));
  assert.equal((await operator.getQueueStatus({})).waitingForRetry, 1);

  await system.advance(31_000);
  const { leaseToken: second } = await backend.claim({});
  const failed = { ...recipient, outcome: Outcome.FAILED, code: "messaging/invalid-argument" };
  assert.equal((await backend.markProcessed({ leaseToken: second, outcomes: [failed] })).marked, 1);
  const { deadLetters } = await operator.listDeadLetters({ code: failed.code });
  assert.deepEqual(
    deadLetters.map(({ notificationId, userId, code, failedTries }) => ({ notificationId, userId, code, failedTries })),
    [{ ...recipient, code: failed.code, failedTries: 2 }],
  );
  const { pending, deadByCode } = await operator.getQueueStatus({});
  assert.deepEqual([pending, deadByCode], [0, { [failed.code]: 1 }]);
  const metrics = await (await fetch(`${system.internalUrl}/metrics`)).text();
  assert.match(metrics, /^notification_oldest_pending_seconds.* \d/m);
  await assert.rejects(backend.redriveDeadLetters({}), refused(Code.PermissionDenied, "CALLER_NOT_ALLOWED"));
  assert.equal((await operator.redriveDeadLetters({ notificationId })).redriven, 1);

  const { leaseToken: third } = await backend.claim({});
  assert.equal((await backend.markProcessed({ leaseToken: third, notificationIds: [notificationId] })).marked, 1);
  assert.equal((await backend.claim({})).leaseToken, "");
});
