/** What a call that must be refused says to its client. A call that is answered instead fails the test. */
import assert from "node:assert/strict";
import { Code, ConnectError } from "@connectrpc/connect";
import { reasonOf } from "../errors.ts";

export function errorOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => assert.fail("it was not refused"),
    (thrown: unknown) => ConnectError.from(thrown),
  );
}

export async function refusal(call: Promise<unknown>) {
  const error = await errorOf(call);
  return { code: error.code, reason: reasonOf(error), message: error.rawMessage };
}

/** Code and reason, such as "NotFound SESSION_NOT_FOUND". */
export async function refusalOf(call: Promise<unknown>): Promise<string> {
  const { code, reason } = await refusal(call);
  return `${Code[code]} ${reason}`;
}
