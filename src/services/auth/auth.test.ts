import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { reasonOf } from "../../errors.ts";
import { startTestService } from "../../testing/system.ts";
import { auth } from "./service.ts";

async function refusal(
  promise: Promise<unknown>,
): Promise<{ code: string; reason: string | undefined; message: string }> {
  const error = await promise.then(
    () => assert.fail("it was not refused"),
    (thrown: unknown) => ConnectError.from(thrown),
  );
  return { code: Code[error.code], reason: reasonOf(error), message: error.rawMessage };
}

test("registers, logs in, and logs out for good", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  const user = await system.newUser({ email: "Ann@Example.com" });
  const internal = system.asService(AuthInternalService, "user", "auth");
  const { account } = await internal.getAccount({ userId: user.userId });
  assert.equal(account?.email, "Ann@Example.com");
  assert.equal((await internal.checkSession({ sessionId: user.sessionId, generation: 0 })).live, true);
  await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
  await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
  assert.equal((await internal.checkSession({ sessionId: user.sessionId, generation: 0 })).live, false);
});

test("a taken e-mail is refused in any spelling", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  await system.newUser({ email: "ann@example.com" });
  const again = system.asUser(AuthService).registerUser({ email: "ANN@example.com", password: "another password" });
  assert.deepEqual(await refusal(again), {
    code: "AlreadyExists",
    reason: "EMAIL_TAKEN",
    message: "an account with this e-mail address exists already",
  });
});
