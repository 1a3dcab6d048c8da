/** Errors as those who receive them see them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createRegistry } from "@bufbuild/protobuf";
import { errorFromJson, errorToJson } from "@connectrpc/connect/protocol-connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { Code, dependencyUnavailable, fail, reasonOf } from "./errors.ts";

test("S-SDK-09 an error is short JSON, for loggers that make it so, and tells its reason and that of its cause", () => {
  const cause = dependencyUnavailable(new Error("canary"));
  const error = fail(Code.Unavailable, "AUTH_STALE", "the session could not be checked", {
    cause,
    retryAfterMs: 1_500,
  });
  const text = JSON.stringify(error);
  assert.ok(text.length < 1_000 && !text.includes("canary"), text);
  const told = JSON.parse(text);
  assert.deepEqual([told.code, told.rawMessage], [Code.Unavailable, "the session could not be checked"]);
  assert.deepEqual(told.details, [
    { type: "google.rpc.ErrorInfo", debug: { reason: "AUTH_STALE", domain: "concierge" } },
    { type: "google.rpc.RetryInfo", debug: { retryDelay: "1.500s" } },
  ]);
  assert.equal(told.cause.details[0].debug.reason, "DEPENDENCY_UNAVAILABLE");
});

test("an error's details arrive at the other end", () => {
  const error = fail(Code.Unavailable, "AUTH_STALE", "the session could not be checked", { retryAfterMs: 1_500 });
  const json = errorToJson(error, { registry: createRegistry(ErrorInfoSchema, RetryInfoSchema) });
  const arrived = errorFromJson(json, undefined, error);
  assert.equal(reasonOf(arrived), "AUTH_STALE");
  assert.equal(arrived.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 1n);
});
