import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { connectService } from "../../client/service-client.ts";
import type { RunningServer } from "../../server.ts";
import { refusalOf } from "../../testing/refusals.ts";
import { startTestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { createSigningKeys } from "../../token/key-making.ts";
import type { KeySet } from "../../token/signing-keys.ts";

const kidOf = (token: string): string => JSON.parse(Buffer.from(token.split(".")[0]!, "base64url").toString()).kid;

/** A second process of everything, which has another key behind the first; and the first process, which has not. */
async function openTwo() {
  const system = await startTestSystem();
  const { keys } = await createSigningKeys("ES256");
  const both: KeySet = { keys: [...system.signingKeys.keys, ...keys] };
  const other = await system.startReplica({ CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(both) });
  await other.ready;
  return {
    ...{ system, other, both, next: keys[0]!.kid },
    async [Symbol.asyncDispose]() {
      await other[Symbol.asyncDispose]();
      await system[Symbol.asyncDispose]();
    },
  };
}

describe("the keys that sign access tokens", () => {
  const published = async ({ publicUrl }: { publicUrl: string }): Promise<string[]> => {
    const set = (await (await fetch(new URL("/.well-known/jwks.json", publicUrl))).json()) as KeySet;
    return set.keys.map(({ kid }) => kid);
  };

  function getMe({ publicUrl }: { publicUrl: string }, accessToken: string) {
    const transport = createConnectTransport({ baseUrl: publicUrl, httpVersion: "1.1" });
    return createClient(UserService, transport).getMe({}, { headers: { authorization: `Bearer ${accessToken}` } });
  }

  test("S-JWT-27 a key that is published and does not sign yet is good already; one that is gone is not", async () => {
    await using two = await openTwo();
    const { system, other, both, next } = two;
    const reversed = { keys: both.keys.toReversed() };
    await using signing = await system.startReplica({ CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(reversed) });
    await signing.ready;
    const user = await system.newUser();
    const login = createClient(AuthService, createConnectTransport({ baseUrl: signing.publicUrl, httpVersion: "1.1" }));
    const { accessToken } = await login.login({ email: user.email, password: user.password });
    assert.deepEqual([kidOf(user.accessToken), kidOf(accessToken)], [both.keys[0]!.kid, next]);
    await getMe(other, accessToken);
    await getMe(signing, user.accessToken);
    const only = { keys: both.keys.slice(1) };
    await using retired = await system.startReplica({ CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(only) });
    await retired.ready;
    assert.equal(await refusalOf(getMe(retired, user.accessToken)), "Unauthenticated UNAUTHENTICATED");
    await getMe(retired, accessToken);
  });

  test("R-KEY-02 S-JWT-30 a key is removed at once, everywhere and for ever; sessions go on", async () => {
    await using two = await openTwo();
    const { system, other, both, next } = two;
    const user = await system.newUser();
    const removed = kidOf(user.accessToken);
    // Remembered by every verifier.
    for (const server of [system.server, other]) await getMe(server, user.accessToken);
    const operator = system.asService(AuthInternalService, "operator", "auth");
    assert.equal(await refusalOf(operator.removeSigningKey({ keyId: next })), "NotFound SIGNING_KEY_NOT_FOUND");
    // The first process has no other key.
    assert.equal(await refusalOf(operator.removeSigningKey({ keyId: removed })), "FailedPrecondition LAST_SIGNING_KEY");
    await getMe(system.server, user.accessToken);

    const transport = (server: RunningServer) =>
      createConnectTransport({ baseUrl: server.publicUrl, httpVersion: "1.1" });
    const key = system.keyOf("operator", "auth");
    using connection = connectService({ baseUrl: other.internalUrl, key, clock: system.clock });
    const internal = connection.client(AuthInternalService);
    await internal.removeSigningKey({ keyId: removed });
    await internal.removeSigningKey({ keyId: removed });
    const isRefused = (server: RunningServer) =>
      getMe(server, user.accessToken).then(
        () => false,
        (error) => ConnectError.from(error).code === Code.Unauthenticated,
      );
    for (const server of [other, system.server]) await until("it is refused", () => isRefused(server));
    assert.deepEqual(await published(other), [next]);
    await until("the other process publishes it no more", async () => (await published(system)).length === 0);

    const refreshed = await createClient(AuthService, transport(other)).refreshToken({
      refreshToken: user.refreshToken,
    });
    assert.equal(kidOf(refreshed.accessToken), next);
    await getMe(other, refreshed.accessToken);
    const { refreshToken } = refreshed;
    const keyless = createClient(AuthService, transport(system.server)).refreshToken({ refreshToken });
    assert.equal(await refusalOf(keyless), "Unavailable NO_SIGNING_KEY");
    // Nothing was used up by that.
    await createClient(AuthService, transport(other)).refreshToken({ refreshToken });

    await using restarted = await system.startReplica({ CONCIERGE_AUTH_SIGNING_KEYS: JSON.stringify(both) });
    await restarted.ready;
    assert.deepEqual(await published(restarted), [next]);
    assert.equal(await refusalOf(getMe(restarted, user.accessToken)), "Unauthenticated UNAUTHENTICATED");
  });
});
