/** When the sender leaves the push service alone, for how long, and what operators hear of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "../../log.ts";
import { createTestClock } from "../../testing/clock.ts";
import { Outages } from "./outages.ts";
import type { PushResult } from "./push.ts";

const sent: PushResult = { outcome: "sent", messageId: "m" };
const gone: PushResult = { outcome: "unregistered" };
const down: PushResult = { outcome: "retry", code: "messaging/server-unavailable" };
const quota: PushResult = { outcome: "untried", code: "messaging/message-rate-exceeded", retryAfterSeconds: 30 };
const rejected: PushResult = { outcome: "rejected", code: "messaging/invalid-argument" };
const mismatch: PushResult = { outcome: "rejected", code: "messaging/mismatched-credential" };
const deviceRate: PushResult = {
  outcome: "retry",
  code: "messaging/device-message-rate-exceeded",
  retryAfterSeconds: 30,
};
const revoked: PushResult = { outcome: "untried", code: "push/credentials-refused" };

function start() {
  const clock = createTestClock();
  const lines: { level: string; codes?: string[] }[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const outages = new Outages(clock, createLogger({ level: "info", mode: "development", destination }));
  /** Milliseconds until it goes on, which this waits for. */
  function pauseMs(): number {
    let waitedMs = 0;
    for (; outages.isPaused(); waitedMs += 10) clock.advance(10);
    return waitedMs;
  }
  return { outages, pauseMs, lines };
}

test("R-NOT-08 a pause is as long as FCM asks, but no longer than a minute", () => {
  const { outages, pauseMs } = start();
  outages.note([down, quota]);
  assert.equal(pauseMs(), 30_000);
  outages.note([{ ...quota, retryAfterSeconds: 3_600 }]);
  assert.equal(pauseMs(), 60_000);
});

test("R-NOT-08 without a word of FCM pauses grow, are not all alike, and end growing at 10 s", () => {
  const { outages, pauseMs } = start();
  for (const longestMs of [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]) {
    outages.note([down]);
    const pause = pauseMs();
    assert.ok(pause >= longestMs / 2 && pause <= longestMs, `${pause} of ${longestMs} ms`);
  }
  const pauses = Array.from({ length: 20 }, () => {
    outages.note([down]);
    return pauseMs();
  });
  assert.ok(new Set(pauses).size > 1);
  outages.note([down, sent]);
  assert.equal(pauseMs(), 0, "something goes through");
  outages.note([down]);
  assert.ok(pauseMs() <= 1_000, "a success begins anew");
});

test("one device's trouble pauses nothing", () => {
  const { outages } = start();
  const troubles: PushResult[] = [
    gone,
    rejected,
    deviceRate,
    { outcome: "retry", code: "messaging/third-party-auth-error" },
  ];
  outages.note([]);
  for (const trouble of troubles) outages.note([trouble]);
  outages.note([sent, ...troubles]);
  assert.equal(outages.isPaused(), false);
});

test("R-NOT-08 what is refused for good, or for one device, does not count as going through", () => {
  const { outages, pauseMs } = start();
  for (const result of [gone, rejected, deviceRate]) {
    outages.note([result, quota]);
    assert.equal(pauseMs(), 30_000);
  }
  for (const longestMs of [8_000, 10_000]) {
    outages.note([gone]);
    outages.note([down, gone, rejected]);
    const pause = pauseMs();
    assert.ok(pause >= longestMs / 2 && pause <= longestMs, `${pause} of ${longestMs} ms`);
  }
});

test("R-NOT-08 what FCM asks for counts although other pushes went through", () => {
  const { outages, pauseMs } = start();
  outages.note([sent, quota, sent]);
  assert.equal(pauseMs(), 30_000);
  outages.note([sent, { ...down, retryAfterSeconds: 7 }]);
  assert.equal(pauseMs(), 7_000);
  outages.note([sent, deviceRate]);
  assert.equal(pauseMs(), 0);
});

test("R-NOT-11 until something was sent, devices of another project are the key's fault, and then their own", () => {
  const { outages, pauseMs } = start();
  const untried: PushResult = { outcome: "untried", code: "messaging/mismatched-credential" };
  assert.deepEqual(outages.note([mismatch, gone, mismatch]), [untried, gone, untried]);
  assert.ok(pauseMs() > 0);
  assert.deepEqual(outages.note([mismatch, sent]), [mismatch, sent]);
  assert.deepEqual(outages.note([mismatch]), [mismatch]);
  assert.equal(pauseMs(), 0);
});

test("R-NOT-11 the log tells each trouble once, as an error where a person must act, and once its end", () => {
  const { outages, lines } = start();
  for (const results of [[sent], [down], [down, sent], [revoked], [down], [revoked], [sent], [sent, mismatch]]) {
    outages.note(results);
  }
  assert.deepEqual(
    lines.map(({ level, codes }) => [level, codes]),
    [
      ["warn", ["messaging/server-unavailable"]],
      ["error", ["push/credentials-refused"]],
      ["info", undefined],
      ["error", ["messaging/mismatched-credential"]],
    ],
  );
});

test("pushes are counted by result and by code, from 0 on, and an outage shows", () => {
  const { outages } = start();
  const read = () => {
    const shown = outages
      .gauges()
      .map(({ name, labels, read }) => [[name, ...Object.values(labels ?? {})].join(" "), read()]);
    return Object.fromEntries(shown) as Record<string, number>;
  };
  assert.deepEqual(new Set(Object.values(read())), new Set([0]));
  outages.note([sent, sent, gone, down]);
  outages.note([revoked, { outcome: "unanswered", code: "new/code" }]);
  const nonzero = Object.entries(read()).filter(([, count]) => count > 0);
  assert.deepEqual(Object.fromEntries(nonzero), {
    "notification_pushes_total sent": 2,
    "notification_pushes_total unregistered": 1,
    "notification_pushes_total retry": 1,
    "notification_pushes_total unanswered": 1,
    "notification_pushes_total untried": 1,
    "notification_push_failures_total messaging/server-unavailable": 1,
    "notification_push_failures_total push/credentials-refused": 1,
    "notification_push_failures_total other": 1,
    notification_push_outage: 1,
  });
});
