/**
 * Clients from before Concierge, with the old contract compiled in: in three languages, by three gRPC libraries that share no code
 * with ours. New in them is an interceptor only, which signs a token for each call.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { startFaultProxy } from "../src/testing/fault-proxy.ts";
import { clientNames, type LegacyClient, startLegacyClient } from "./legacy-clients.ts";
import { type LegacyScenario, PERMISSION_IN_BRANCH, startLegacyScenario } from "./legacy-scenario.ts";

const OK = 0;
const SEQUENTIAL_CALLS = 1000;

describe("clients of the legacy contract", () => {
  const opened = new AsyncDisposableStack();
  let scenario: LegacyScenario;

  before(async () => {
    scenario = opened.use(await startLegacyScenario());
  });

  after(() => opened.disposeAsync());

  for (const name of clientNames) {
    describe(name, () => {
      let client: LegacyClient;

      before(() => {
        client = opened.use(startLegacyClient(name, scenario.target));
      });

      test("C1 S-API-18 each of the five methods answers with the fields of the old contract", async () => {
        const { accessToken, member, verified, organization } = scenario;
        const { permissions, locals } = verified;
        const check = (permission: string) => ({ ...member, permission });
        for (const [method, request, answer] of [
          ["VerifyToken", { token: accessToken }, verified],
          ["GetUserPermissions", member, { permissions, locals }],
          ["GetUserLocals", member, { local_ids: locals }],
          ["CheckPermission", check(permissions[0]!), { has_permission: true }],
          ["CheckPermission", check(PERMISSION_IN_BRANCH), { has_permission: false }],
          ["GetOrganization", { organization_id: organization.id }, organization],
        ] as const) {
          assert.deepEqual(await client.call({ method, request }), { code: OK, answer, times: 1 }, method);
        }
      });

      test("1,000 calls one after the other on one channel", async () => {
        const request = { token: scenario.accessToken };
        const outcome = await client.call({ method: "VerifyToken", request, times: SEQUENTIAL_CALLS });
        assert.deepEqual(outcome, { code: OK, answer: scenario.verified, times: SEQUENTIAL_CALLS });
      });

      test("UNAUTHENTICATED: a token that is none, or not quite", async () => {
        const codeOf = async (token: string) => (await client.call({ method: "VerifyToken", request: { token } })).code;
        for (const token of ["", "no token", scenario.accessToken.slice(0, -4), `${scenario.accessToken}x`]) {
          assert.equal(await codeOf(token), Code.Unauthenticated, token);
        }
        // Else the one that was refused could be the caller's own.
        assert.equal(await codeOf(scenario.accessToken), OK);
      });

      test("C13 NOT_FOUND: a user or an organization that is not there, or not an id", async () => {
        const { member } = scenario;
        for (const unknown of [crypto.randomUUID(), "42", ""]) {
          for (const request of [
            { ...member, user_id: unknown },
            { ...member, organization_id: unknown },
          ]) {
            for (const method of ["GetUserPermissions", "GetUserLocals", "CheckPermission"]) {
              const { code } = await client.call({ method, request });
              assert.equal(code, Code.NotFound, `${method} ${JSON.stringify(request)}`);
            }
          }
          const { code } = await client.call({ method: "GetOrganization", request: { organization_id: unknown } });
          assert.equal(code, Code.NotFound, unknown);
        }
      });

      test("PERMISSION_DENIED: a caller who is not on the list of the method", async () => {
        await using stranger = startLegacyClient(name, { ...scenario.target, keysFile: scenario.strangersKeysFile });
        const { code } = await stranger.call({ method: "VerifyToken", request: { token: scenario.accessToken } });
        assert.equal(code, Code.PermissionDenied);
      });

      test("DEADLINE_EXCEEDED: no answer comes in time, and the channel goes on afterwards", async () => {
        const { hostname: host, port } = new URL(scenario.target.grpcUrl);
        await using proxy = await startFaultProxy({ host, port: Number(port) });
        await using delayed = startLegacyClient(name, { ...scenario.target, grpcUrl: proxy.url });
        const call = { method: "GetOrganization", request: { organization_id: scenario.organization.id } };
        assert.equal((await delayed.call(call)).code, OK);
        proxy.hang();
        assert.equal((await delayed.call({ ...call, timeoutSeconds: 0.2 })).code, Code.DeadlineExceeded);
        await proxy.heal();
        assert.equal((await delayed.call(call)).code, OK);
      });

      test("C21 UNAVAILABLE: the services that auth has to ask are away", async () => {
        await using lonely = startLegacyClient(name, scenario.alone);
        const { member } = scenario;
        for (const method of ["GetUserPermissions", "GetUserLocals", "CheckPermission"]) {
          assert.equal((await lonely.call({ method, request: member })).code, Code.Unavailable, method);
        }
        const { code } = await lonely.call({
          method: "GetOrganization",
          request: { organization_id: crypto.randomUUID() },
        });
        assert.equal(code, Code.Unavailable);
      });

      test("INTERNAL: a defect of ours", async () => {
        await using client = startLegacyClient(name, scenario.defective);
        const { code } = await client.call({ method: "VerifyToken", request: { token: scenario.accessToken } });
        assert.equal(code, Code.Internal);
      });
    });
  }

  describe("the calling code in Python, as it was", () => {
    let client: LegacyClient;

    before(() => {
      client = opened.use(startLegacyClient("grpcio", scenario.target));
    });

    test("verify_token gives who it is, or raises UnauthorizedError", async () => {
      const verify = (token: string) => client.call({ by: "client", method: "verify_token", request: { token } });
      const { first_name, last_name, ...told } = scenario.verified;
      assert.deepEqual(await verify(scenario.accessToken), { code: OK, answer: told, times: 1 });
      assert.equal((await verify("no token")).code, "UnauthorizedError");
    });

    test("C13 check_permission is false where it is not held, and on any fault", async () => {
      await using lonely = startLegacyClient("grpcio", scenario.alone);
      const request = { ...scenario.member, permission: scenario.verified.permissions[0]! };
      const isHeld = async (by: LegacyClient, changes = {}) =>
        (await by.call({ by: "client", method: "check_permission", request: { ...request, ...changes } })).answer;
      assert.equal(await isHeld(client), true);
      assert.equal(await isHeld(client, { permission: PERMISSION_IN_BRANCH }), false);
      assert.equal(await isHeld(client, { user_id: "nobody" }), false);
      assert.equal(await isHeld(lonely), false);
    });

    test("C17 the same over REST, where gRPC does not get through", async () => {
      const { accessToken, member, verified } = scenario;
      const { first_name, last_name, active, ...others } = verified;
      const verify = (token: string) => client.call({ by: "rest", method: "verify_token", request: { token } });
      assert.deepEqual(await verify(accessToken), { code: OK, answer: { ...others, is_active: active }, times: 1 });
      assert.equal((await verify("no token")).code, 401);
      const localsOf = (org_id: string) =>
        client.call({ by: "rest", method: "get_user_locals", request: { user_id: member.user_id, org_id } });
      assert.deepEqual(await localsOf(member.organization_id), { code: OK, answer: verified.locals, times: 1 });
      assert.equal((await localsOf(crypto.randomUUID())).code, 404);
    });
  });
});
