/** Every answer of FCM, the SDK and what stands between, with the outcome it must have. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MessagingErrorCode } from "firebase-admin/messaging";
import { isPostponed, outcomeOfError } from "./push-outcome.ts";

function answer(status: number, errorCode?: string) {
  const details =
    errorCode === undefined ? [] : [{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode }];
  return { status, data: { error: { code: status, details } } };
}

test("a device is dead only if FCM itself says UNREGISTERED", () => {
  for (const code of ["messaging/registration-token-not-registered", "messaging/installation-id-not-registered"]) {
    const outcome = (httpResponse?: object) => outcomeOfError({ code, httpResponse });
    assert.deepEqual(outcome(answer(404, "UNREGISTERED")), { outcome: "unregistered" });
    assert.deepEqual(outcome(answer(404)), { outcome: "untried", code: "push/not-found" });
    assert.deepEqual(outcome({ status: 404, data: "<html>" }), { outcome: "untried", code: "push/not-found" });
    assert.deepEqual(outcome(undefined), { outcome: "untried", code: "push/not-found" });
  }
});

test("a missing permission of ours is not a mismatch of the device", () => {
  const code = "messaging/mismatched-credential";
  const outcome = (httpResponse: object) => outcomeOfError({ code, httpResponse });
  assert.deepEqual(outcome(answer(403, "SENDER_ID_MISMATCH")), { outcome: "rejected", code });
  assert.deepEqual(outcome(answer(403)), { outcome: "untried", code: "push/permission-denied" });
});

test("a refused access token is told from a missing certificate for APNs", () => {
  const code = "messaging/third-party-auth-error";
  const outcome = (httpResponse: object) => outcomeOfError({ code, httpResponse });
  assert.deepEqual(outcome(answer(401, "THIRD_PARTY_AUTH_ERROR")), { outcome: "retry", code });
  assert.deepEqual(outcome(answer(401)), { outcome: "untried", code: "push/unauthenticated" });
});

test("a refusal counts from FCM or the SDK, not from a proxy", () => {
  const code = "messaging/invalid-argument";
  assert.deepEqual(outcomeOfError({ code }), { outcome: "rejected", code });
  assert.deepEqual(outcomeOfError({ code, httpResponse: answer(400) }), { outcome: "rejected", code });
  const proxy = { status: 400, data: "<html>Bad Request</html>" };
  assert.deepEqual(outcomeOfError({ code, httpResponse: proxy }), { outcome: "untried", code });
});

test("every code of the SDK is either permanent, on this list, or to be retried", () => {
  const permanent = Object.values(MessagingErrorCode).filter(
    (code) => !isPostponed(outcomeOfError({ code: `messaging/${code}` })),
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
    assert.deepEqual(outcomeOfError(error), { outcome: "unanswered", code: "push/unknown-error" });
  }
  assert.deepEqual(outcomeOfError({ code: "app/network-error" }), {
    outcome: "unanswered",
    code: "app/network-error",
  });
});

test("why there is no access token is told, whatever the SDK wraps around it", () => {
  const refused = { code: "app/invalid-credential", cause: Object.assign(new Error("secret"), { status: 400 }) };
  const outcome = { outcome: "untried", code: "push/credentials-refused" };
  assert.deepEqual(outcomeOfError(refused), outcome);
  const bundled = { code: "messaging/unknown-error", cause: new AggregateError([refused, new Error("secret")]) };
  assert.deepEqual(outcomeOfError(bundled), outcome);
  const reset = { code: "messaging/unknown-error", cause: new AggregateError([{ code: "app/network-error" }]) };
  assert.deepEqual(outcomeOfError(reset), { outcome: "unanswered", code: "app/network-error" });
});

test("what cannot have arrived is told from what may have", () => {
  const outcome = (cause: object) => outcomeOfError({ code: "app/network-error", cause });
  const failed = (code: string) => Object.assign(new Error("secret"), { code });
  assert.deepEqual(outcome(failed("ECONNRESET")), { outcome: "unanswered", code: "app/network-error" });
  const unreachable = { outcome: "untried", code: "push/unreachable" };
  for (const code of ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "CERT_HAS_EXPIRED", "ERR_TLS_CERT_ALTNAME_INVALID"]) {
    assert.deepEqual(outcome(failed(code)), unreachable, code);
  }
  // Of several addresses, as Node tries them; and a stream over HTTP/2 whose session never came to be.
  assert.deepEqual(outcome(new AggregateError([failed("ENETUNREACH"), failed("ECONNREFUSED")])), unreachable);
  const session = { code: "app/network-error", cause: failed("ECONNREFUSED") };
  const stream = { code: "app/network-error", cause: failed("ERR_HTTP2_STREAM_CANCEL") };
  assert.deepEqual(outcome(new AggregateError([stream, session])), unreachable);
  assert.deepEqual(outcome(new AggregateError([stream])), { outcome: "unanswered", code: "app/network-error" });
});

test("R-NOT-08 Retry-After is read in seconds and as a date, by the answer's own clock", () => {
  const wait = (headers: object, code = "messaging/server-unavailable") => {
    const result = outcomeOfError({ code, httpResponse: { ...answer(503, "UNAVAILABLE"), headers } });
    return isPostponed(result) ? result.retryAfterSeconds : "decided";
  };
  const date = "Wed, 21 Oct 2015 07:28:00 GMT";
  assert.equal(wait({ "retry-after": "30" }), 30);
  assert.equal(wait({ "retry-after": "Wed, 21 Oct 2015 07:28:40 GMT", date }), 40);
  assert.equal(wait({ "retry-after": "99999999" }), 86_400);
  for (const headers of [{}, { "retry-after": "0" }, { "retry-after": "soon" }, { "retry-after": date, date }]) {
    assert.equal(wait(headers), undefined, JSON.stringify(headers));
  }
  assert.equal(wait({}, "messaging/message-rate-exceeded"), 60);
  assert.equal(wait({ "retry-after": "7" }, "messaging/message-rate-exceeded"), 7);
});
