/** What the answers to pushes mean for a recipient, case by case. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ClaimResponseSchema, Outcome } from "../../../gen/concierge/notification/v1/notification_service_pb.ts";
import { deliveriesOf, outcomeOf, recipientCount, reportOf } from "./batches.ts";
import type { PushResult } from "./push.ts";

const sent: PushResult = { outcome: "sent", messageId: "m" };
const gone: PushResult = { outcome: "unregistered" };
const rejected: PushResult = { outcome: "rejected", code: "messaging/invalid-argument" };
const retry: PushResult = { outcome: "retry", code: "messaging/internal-error" };

function claimed(notifications: MessageInitShape<typeof ClaimResponseSchema>["notifications"]) {
  return create(ClaimResponseSchema, { notifications }).notifications;
}

function device(token: string) {
  return { deviceId: `id of ${token}`, token };
}

test("a recipient's outcome follows from all of its devices", () => {
  const table: [PushResult[], Outcome | undefined][] = [
    [[], Outcome.NO_DEVICE],
    [[sent], Outcome.SENT],
    [[gone, rejected, retry, sent], Outcome.SENT],
    [[gone], Outcome.FAILED],
    [[rejected], Outcome.FAILED],
    [[gone, rejected], Outcome.FAILED],
    [[retry], undefined],
    [[gone, retry], undefined],
    [[rejected, retry], undefined],
  ];
  for (const [results, outcome] of table) assert.equal(outcomeOf(results), outcome, JSON.stringify(results));
});

test("every device of every recipient gets its notification as it was said", () => {
  const data = { order: "42" };
  const notifications = claimed([
    {
      ...{ notificationId: "n1", title: "Hi", text: "one", data },
      recipients: [{ userId: "ann", devices: [device("a1"), device("a2")] }, { userId: "bob" }],
    },
    { notificationId: "n2", text: "two", recipients: [{ userId: "ann", devices: [device("a1")] }] },
  ]);
  assert.equal(recipientCount(notifications), 3);
  assert.deepEqual(
    deliveriesOf(notifications).map(({ userId, deviceId, message }) => ({ userId, deviceId, ...message })),
    [
      {
        ...{ userId: "ann", deviceId: "id of a1", deviceToken: "a1" },
        notificationId: "n1",
        title: "Hi",
        body: "one",
        data,
      },
      {
        ...{ userId: "ann", deviceId: "id of a2", deviceToken: "a2" },
        notificationId: "n1",
        title: "Hi",
        body: "one",
        data,
      },
      {
        ...{ userId: "ann", deviceId: "id of a1", deviceToken: "a1" },
        notificationId: "n2",
        title: "",
        body: "two",
        data: {},
      },
    ],
  );
});

test("a report tells of who is decided, and of no device of anybody else", () => {
  const notifications = claimed([
    {
      notificationId: "n1",
      recipients: [
        { userId: "ann", devices: [device("a1"), device("a2")] },
        { userId: "bob", devices: [device("b1"), device("b2")] },
        { userId: "cid" },
      ],
    },
    {
      notificationId: "n2",
      recipients: [
        { userId: "ann", devices: [device("a2")] },
        { userId: "bob", devices: [device("b3")] },
      ],
    },
  ]);
  const deliveries = deliveriesOf(notifications);
  // The last delivery has no result: it was not pushed any more.
  const report = reportOf("lease", notifications, deliveries, [sent, gone, gone, retry, gone]);
  assert.deepEqual(report, {
    leaseToken: "lease",
    outcomes: [
      { notificationId: "n1", userId: "ann", outcome: Outcome.SENT },
      { notificationId: "n1", userId: "cid", outcome: Outcome.NO_DEVICE },
      { notificationId: "n2", userId: "ann", outcome: Outcome.FAILED },
    ],
    deadDeviceIds: ["id of a2"],
  });
});
