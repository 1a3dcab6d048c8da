/** Every answer of FCM, the SDK and what stands between, with the outcome it must have. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MessagingErrorCode } from "firebase-admin/messaging";
import { outcomeOfError } from "./push-outcome.ts";

function answer(status: number, errorCode?: string) {
  const details =
    errorCode === undefined ? [] : [{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode }];
  return { status, data: { error: { code: status, details } } };
}

test("a device is dead only if FCM itself says UNREGISTERED", () => {
  for (const code of ["messaging/registration-token-not-registered", "messaging/installation-id-not-registered"]) {
    const outcome = (httpResponse?: object) => outcomeOfError({ code, httpResponse });
    assert.deepEqual(outcome(answer(404, "UNREGISTERED")), { outcome: "unregistered" });
    assert.deepEqual(outcome(answer(404)), { outcome: "retry", code: "push/not-found" });
    assert.deepEqual(outcome({ status: 404, data: "<html>" }), { outcome: "retry", code: "push/not-found" });
    assert.deepEqual(outcome(undefined), { outcome: "retry", code: "push/not-found" });
  }
});

test("a missing permission of ours is not a mismatch of the device", () => {
  const code = "messaging/mismatched-credential";
  const outcome = (httpResponse: object) => outcomeOfError({ code, httpResponse });
  assert.deepEqual(outcome(answer(403, "SENDER_ID_MISMATCH")), { outcome: "rejected", code });
  assert.deepEqual(outcome(answer(403)), { outcome: "retry", code: "push/permission-denied" });
});

test("a refused access token is told from a missing certificate for APNs", () => {
  const code = "messaging/third-party-auth-error";
  const outcome = (httpResponse: object) => outcomeOfError({ code, httpResponse });
  assert.deepEqual(outcome(answer(401, "THIRD_PARTY_AUTH_ERROR")), { outcome: "retry", code });
  assert.deepEqual(outcome(answer(401)), { outcome: "retry", code: "push/unauthenticated" });
});

test("a refusal counts from FCM or the SDK, not from a proxy", () => {
  const code = "messaging/invalid-argument";
  assert.deepEqual(outcomeOfError({ code }), { outcome: "rejected", code });
  assert.deepEqual(outcomeOfError({ code, httpResponse: answer(400) }), { outcome: "rejected", code });
  const proxy = { status: 400, data: "<html>Bad Request</html>" };
  assert.deepEqual(outcomeOfError({ code, httpResponse: proxy }), { outcome: "retry", code });
});

test("every code of the SDK is either permanent, on this list, or to be retried", () => {
  const permanent = Object.values(MessagingErrorCode).filter(
    (code) => outcomeOfError({ code: `messaging/${code}` }).outcome !== "retry",
  );
  assert.deepEqual(permanent, [
    "invalid-argument",
    "invalid-recipient",
    "invalid-payload",
    "invalid-data-payload-key",
    "payload-size-limit-exceeded",
    "invalid-options",
    "invalid-registration-token",
    "invalid-package-name",
    "too-many-topics",
  ]);
});

test("what is not an error of the SDK's is retried, and none of its text is kept", () => {
  for (const error of [
    new Error("secret"),
    "secret",
    undefined,
    null,
    { code: 5 },
    { code: "secret: a/b" },
    { code: "" },
  ]) {
    assert.deepEqual(outcomeOfError(error), { outcome: "retry", code: "push/unknown-error" });
  }
  assert.deepEqual(outcomeOfError({ code: "app/network-error" }), {
    outcome: "retry",
    code: "app/network-error",
  });
});

test("why there is no access token is told, whatever the SDK wraps around it", () => {
  const refused = { code: "app/invalid-credential", cause: Object.assign(new Error("secret"), { status: 400 }) };
  const outcome = { outcome: "retry", code: "push/credentials-refused" };
  assert.deepEqual(outcomeOfError(refused), outcome);
  const bundled = { code: "messaging/unknown-error", cause: new AggregateError([refused, new Error("secret")]) };
  assert.deepEqual(outcomeOfError(bundled), outcome);
  const reset = { code: "messaging/unknown-error", cause: new AggregateError([{ code: "app/network-error" }]) };
  assert.deepEqual(outcomeOfError(reset), { outcome: "retry", code: "app/network-error" });
});
