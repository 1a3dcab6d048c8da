/** What a claim means for devices, and what their answers mean for a recipient, case by case. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  ClaimResponseSchema,
  ExtendLeaseResponseSchema,
  Outcome,
  Priority,
} from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { type Delivery, deliveriesOf, firstChunk, reportOf, verdictOf } from "./batches.ts";
import type { PushResult } from "./push.ts";

const sent: PushResult = { outcome: "sent", messageId: "m" };
const gone: PushResult = { outcome: "unregistered" };
const rejected: PushResult = { outcome: "rejected", code: "messaging/invalid-argument" };
const retry: PushResult = { outcome: "retry", code: "messaging/internal-error" };
const unanswered: PushResult = { outcome: "unanswered", code: "app/network-error" };
const untried: PushResult = { outcome: "untried", code: "push/unreachable" };

function claimed(notifications: MessageInitShape<typeof ClaimResponseSchema>["notifications"]) {
  return create(ClaimResponseSchema, { notifications }).notifications;
}

function leased(recipients: MessageInitShape<typeof ExtendLeaseResponseSchema>["recipients"]) {
  return create(ExtendLeaseResponseSchema, { recipients }).recipients;
}

function device(token: string) {
  return { deviceId: `id of ${token}`, token };
}

/** A recipient with so many devices. */
function deliveryOf(userId: string, ...tokens: string[]): Delivery {
  const recipients = leased([{ notificationId: "n1", userId, devices: tokens.map(device) }]);
  return deliveriesOf(claimed([{ notificationId: "n1" }]), recipients)[0]!;
}

test("a recipient's outcome follows from all of its devices", () => {
  const table: [PushResult[], Outcome, string | undefined][] = [
    [[], Outcome.NO_DEVICE, undefined],
    [[sent], Outcome.SENT, undefined],
    [[gone, rejected, retry, unanswered, untried, sent], Outcome.SENT, undefined],
    [[gone], Outcome.FAILED, "messaging/registration-token-not-registered"],
    [[rejected], Outcome.FAILED, "messaging/invalid-argument"],
    [[rejected, gone], Outcome.FAILED, "messaging/invalid-argument"],
    [[retry], Outcome.RETRY, "messaging/internal-error"],
    [[unanswered], Outcome.RETRY, "app/network-error"],
    [[gone, retry, unanswered], Outcome.RETRY, "app/network-error"],
    [[retry, untried], Outcome.RETRY, "messaging/internal-error"],
    [[untried], Outcome.NOT_TRIED, "push/unreachable"],
    [[untried, rejected], Outcome.NOT_TRIED, "push/unreachable"],
  ];
  for (const [results, outcome, code] of table) {
    const verdict = verdictOf(results);
    assert.deepEqual([verdict.outcome, verdict.code], [outcome, code], JSON.stringify(results));
  }
});

test("R-NOT-08 a recipient waits for as long as FCM asks, and what was not tried for some seconds in any case", () => {
  const waits = (...results: PushResult[]) => verdictOf(results).retryAfterSeconds;
  assert.equal(waits(retry), 0);
  assert.equal(waits({ ...retry, retryAfterSeconds: 9 }, { ...retry, retryAfterSeconds: 30 }), 30);
  assert.equal(waits(untried), 5);
  assert.equal(waits({ ...untried, retryAfterSeconds: 60 }), 60);
  assert.equal(waits({ ...untried, retryAfterSeconds: 0 }), 0);
});

test("every device of every recipient gets its notification as it was said", () => {
  const data = { order: "42" };
  const expiresAt = timestampFromMs(1_700_000_000_000);
  const notifications = claimed([
    { notificationId: "n1", title: "Hi", text: "one", data, priority: Priority.HIGH, expiresAt },
    { notificationId: "n2", text: "two" },
  ]);
  const recipients = leased([
    { notificationId: "n1", userId: "ann", devices: [device("a1"), device("a2")] },
    { notificationId: "n1", userId: "bob" },
    { notificationId: "n2", userId: "ann", devices: [device("a1")] },
  ]);
  const common = { title: "Hi", body: "one", data, priority: "high", expiresAtMs: 1_700_000_000_000 };
  const first = { notificationId: "n1", ...common };
  const second = { notificationId: "n2", title: "", body: "two", data: {}, priority: "normal", expiresAtMs: undefined };
  assert.deepEqual(deliveriesOf(notifications, recipients), [
    {
      ...{ notificationId: "n1", userId: "ann" },
      pushes: [
        { deviceId: "id of a1", message: { ...first, deviceToken: "a1" } },
        { deviceId: "id of a2", message: { ...first, deviceToken: "a2" } },
      ],
    },
    { notificationId: "n1", userId: "bob", pushes: [] },
    {
      ...{ notificationId: "n2", userId: "ann" },
      pushes: [{ deviceId: "id of a1", message: { ...second, deviceToken: "a1" } }],
    },
  ]);
});

test("a chunk holds whole recipients, as many as fit, and one in any case", () => {
  const deliveries = [deliveryOf("ann", "a1", "a2"), deliveryOf("bob"), deliveryOf("cid", "c1", "c2")];
  const usersOf = (chunk: Delivery[]) => chunk.map(({ userId }) => userId);
  assert.deepEqual(usersOf(firstChunk(deliveries, 4)), ["ann", "bob", "cid"]);
  assert.deepEqual(usersOf(firstChunk(deliveries, 3)), ["ann", "bob"]);
  assert.deepEqual(usersOf(firstChunk(deliveries, 1)), ["ann"]);
  assert.deepEqual(firstChunk([], 1), []);
});

test("a report tells of everybody, and of dead devices of those only who are decided", () => {
  const deliveries = [deliveryOf("ann", "a1", "a2"), deliveryOf("bob", "b1", "b2"), deliveryOf("cid")];
  const report = reportOf("lease", [...deliveries, deliveryOf("dan", "d1")], [sent, gone, gone, retry, gone]);
  const told = report.outcomes.map(({ userId, outcome }) => [userId, outcome]);
  assert.deepEqual(told, [
    ["ann", Outcome.SENT],
    ["bob", Outcome.RETRY],
    ["cid", Outcome.NO_DEVICE],
    ["dan", Outcome.FAILED],
  ]);
  assert.deepEqual(report.deadDeviceIds, ["id of a2", "id of d1"]);
  assert.equal(report.leaseToken, "lease");
});
