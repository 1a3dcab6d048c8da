/** The two REST paths of before: the same answers, behind the same service tokens, over both versions of HTTP. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { type Forgery, forgeServiceToken } from "../../testing/forged-service-token.ts";
import { type HttpVersion, sendHttp } from "../../testing/http.ts";
import { addMember, makeOrganization, openBranch } from "../../testing/memberships.ts";
import { startTestService, startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { messageDigest } from "../../token/service-token.ts";
import { auth } from "./service.ts";

const VERIFY = "/auth.AuthService/VerifyToken";
const LOCALS = "/auth.AuthService/GetUserLocals";
const UNAUTHENTICATED = { code: "unauthenticated", message: "unauthenticated", reason: "UNAUTHENTICATED" };

interface Rest {
  httpMethod?: string;
  path: string;
  body?: string;
  tenant?: string;
  /** What the token is for; made right, unless told otherwise. */
  procedure: string;
  signed?: string;
  caller?: string;
  forgery?: Partial<Forgery>;
  /** Without a service token, if null. */
  token?: null;
  version?: HttpVersion;
}

async function call(system: TestSystem, rest: Rest) {
  const { httpMethod = "POST", path, body = "", tenant, procedure, caller = "backend", version = "1.1" } = rest;
  const signed = rest.signed ?? (httpMethod === "GET" ? `${path}\n${tenant ?? ""}` : body);
  const digest = messageDigest(Buffer.from(signed));
  const { clock } = system;
  const token = forgeServiceToken({ key: system.keyOf(caller, "auth"), clock, procedure, digest, ...rest.forgery });
  const answer = await sendHttp(version, system.server.restUrl!, {
    httpMethod,
    path,
    headers: [
      ["content-type", "application/json"],
      ...(rest.token === null ? [] : [["service-token", token] as const]),
      ...(tenant === undefined ? [] : [["X-Tenant-ID", tenant] as const]),
    ],
    body: Buffer.from(body),
  });
  return { status: answer.status, answer: JSON.parse(answer.body.toString()), headers: answer.headers };
}

describe("REST", () => {
  let system: TestSystem;
  let owner: TestUser;
  let organizationId: string;
  let branchId: string;
  let token: string;

  before(async () => {
    system = await startTestSystem();
    owner = await system.newUser();
    organizationId = await makeOrganization(system, owner);
    ({ branchId } = await openBranch({ system, owner, organizationId }));
    const { email, password } = owner;
    token = (await system.asUser(AuthService).login({ email, password, organizationId })).accessToken;
    await until(
      "the branch is known",
      async () => (await locals(owner.userId, organizationId)).answer.locals.length === 1,
    );
  });
  after(() => system[Symbol.asyncDispose]());

  const verify = (accessToken: string, changes: Partial<Rest> = {}) => {
    const body = JSON.stringify({ token: accessToken });
    return call(system, { path: "/auth/verify", procedure: VERIFY, body, ...changes });
  };
  const locals = (userId: string, tenant: string | undefined, changes: Partial<Rest> = {}) =>
    call(system, { httpMethod: "GET", path: `/api/v1/users/${userId}/locals`, tenant, procedure: LOCALS, ...changes });

  for (const version of ["1.1", "2"] as const) {
    test(`C17 HTTP/${version}: a verified token, and somebody's branches`, async () => {
      const { status, answer, headers } = await verify(token, { version });
      const { permissions, ...rest } = answer;
      assert.equal(status, 200);
      const { userId, email } = owner;
      const expected = { user_id: userId, organization_id: organizationId, email, is_active: true, locals: [branchId] };
      assert.deepEqual(rest, expected);
      assert.ok(permissions.includes("organization:delete"));
      assert.ok(headers.some(([name]) => name.toLowerCase() === "x-request-id"));
      const found = await locals(userId, organizationId, { version });
      assert.deepEqual([found.status, found.answer], [200, { locals: [{ id: branchId }] }]);
    });

    test(`C7 HTTP/${version}: a service token is for one path, and for what was sent`, async () => {
      const { userId } = owner;
      const refused = [
        verify(token, { version, token: null }),
        verify(token, { version, procedure: LOCALS }),
        verify(token, { version, procedure: "/auth/verify" }),
        verify(token, { version, signed: JSON.stringify({ token: "another" }) }),
        verify(token, { version, forgery: { digest: undefined } }),
        locals(userId, organizationId, { version, token: null }),
        locals(userId, organizationId, { version, procedure: VERIFY }),
        locals(userId, organizationId, { version, signed: `/api/v1/users/${userId}/locals\n${crypto.randomUUID()}` }),
        locals(userId, organizationId, { version, signed: `/api/v1/users/${userId}/locals` }),
      ];
      for (const { status, answer } of await Promise.all(refused)) {
        assert.deepEqual([status, answer], [401, UNAUTHENTICATED]);
      }
      const service = await verify(token, { version, caller: "user" });
      assert.deepEqual([service.status, service.answer.reason], [403, "CALLER_NOT_ALLOWED"]);
    });

    test(`HTTP/${version}: whatever is wrong with what was sent has the status that Connect gives it`, async () => {
      assert.deepEqual((await verify("x", { version })).answer, UNAUTHENTICATED);
      for (const body of ["", "{", "[]", '{"token":1}', '{"token":"x","role":"admin"}', "\xff"]) {
        const { status, answer } = await verify("", { version, body });
        assert.deepEqual([status, answer.code, answer.reason], [400, "invalid_argument", "MALFORMED_MESSAGE"], body);
      }
      const { status, answer } = await verify("x".repeat(50 * 1024 * 1024), { version });
      assert.deepEqual([status, answer.reason], [429, "MESSAGE_TOO_LARGE"]);
    });

    test(`HTTP/${version}: nothing else is there`, async () => {
      const requests: Partial<Rest>[] = [
        { httpMethod: "GET", path: "/auth/verify" },
        { path: "/auth/verify/" },
        { path: "/auth/verify?x=1" },
        { path: "//auth/verify" },
        { path: VERIFY },
        { path: "/healthz" },
        { path: `/api/v1/users/${owner.userId}/locals` },
        { httpMethod: "GET", path: `/api/v1/users/${owner.userId}/locals?x` },
        { httpMethod: "GET", path: "/api/v1/users/a/b/locals" },
      ];
      for (const request of requests) {
        const { status, answer } = await verify(token, { ...request, version });
        assert.deepEqual([status, answer.reason], [404, "NOT_FOUND"], request.path);
      }
    });
  }

  test("S-TEN-02 the tenant header is a parameter, and gives nothing that the person does not have", async () => {
    const [stranger, other] = [await system.newUser(), await system.newUser()];
    const foreign = await makeOrganization(system, other);
    for (const [userId, tenant, reason] of [
      [stranger.userId, organizationId, "USER_NOT_FOUND"],
      [owner.userId, foreign, "USER_NOT_FOUND"],
      [owner.userId, crypto.randomUUID(), "ORGANIZATION_NOT_FOUND"],
      [owner.userId, "", "ORGANIZATION_NOT_FOUND"],
      [owner.userId, undefined, "ORGANIZATION_NOT_FOUND"],
      ["x", organizationId, "USER_NOT_FOUND"],
    ] as const) {
      const { status, answer } = await locals(userId, tenant);
      assert.deepEqual([status, answer.code, answer.reason], [404, "not_found", reason], `${userId} ${tenant}`);
    }
    // A token says where a person acts, and no header does.
    assert.equal((await verify(token, { tenant: foreign })).answer.organization_id, organizationId);
    await addMember({ system, owner: other, organizationId: foreign }, stranger);
    assert.equal((await verify(stranger.accessToken, { tenant: foreign })).answer.organization_id, "");
  });

  test("its calls are logged and counted like others, by the method that they map to", async () => {
    await verify("x");
    const line = await until("the line", () =>
      system.logLines.find(({ protocol, refusal }) => protocol === "rest" && refusal === "bad_form"),
    );
    assert.deepEqual([line.procedure, line.caller, line.code], [VERIFY, "backend backend", "Unauthenticated"]);
    const metrics = await (await fetch(`${system.internalUrl}/metrics`)).text();
    assert.match(metrics, /protocol="rest"/);
    assert.match(metrics, /listener_connections\{listener="rest"\}/);
  });
});

test("C21 while access and organization are away REST says so", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  const path = `/api/v1/users/${crypto.randomUUID()}/locals`;
  const tenant = crypto.randomUUID();
  const { status, answer } = await call(system, { httpMethod: "GET", path, tenant, procedure: LOCALS });
  assert.deepEqual([status, answer.code, answer.reason], [503, "unavailable", "AUTH_STALE"]);
});

test("a body that there is no memory for is refused as too much for now", async () => {
  const variables = { CONCIERGE_INTERNAL_BODY_MEMORY_BYTES: "100000" };
  await using system = await startTestService(auth, { variables });
  await system.server.ready;
  for (const [bytes, status, reason] of [
    [100_001, 429, "OVERLOADED"],
    [100_000, 400, "MALFORMED_MESSAGE"],
  ] as const) {
    const body = "x".repeat(bytes);
    const refused = await call(system, { path: "/auth/verify", procedure: VERIFY, body });
    assert.deepEqual([refused.status, refused.answer.reason], [status, reason]);
  }
});
