/** Every guard in front of the same server answers the same. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { decodeJwt } from "jose";
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { Code, fail } from "../../errors.ts";
import { fromConsistencyToken, mergeRevisions, toConsistencyToken } from "../../rights/revisions.ts";
import { startFaultProxy } from "../../testing/fault-proxy.ts";
import { addMember, makeOrganization } from "../../testing/memberships.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { signAccessToken } from "../../token/access-token.ts";
import { createSigner } from "../../token/signing-keys.ts";
import { type AuthClient, createAuthClient } from "../auth-client.ts";
import type { GuardClient } from "./decision.ts";
import { expressGuards, fastifyGuards, honoGuards, requirePermission, rulesOf } from "./index.ts";
import {
  type GuardedAnswer,
  type GuardedPath,
  type GuardedServer,
  PERMISSION,
  startGuardedServers,
} from "./testing.ts";

const STALE_MS = 6_000;

describe("guards", () => {
  const opened = new AsyncDisposableStack();
  let system: TestSystem;
  let auth: AuthClient;
  let servers: GuardedServer[];
  /** Holds orders:read as an owner does; `member` does not. */
  let owner: TestUser;
  let member: TestUser;
  let organizationId: string;
  /** Consistency tokens of access and of organization. */
  let seen: string[];

  before(async () => {
    system = opened.use(await startTestSystem());
    owner = await system.newUser();
    auth = opened.use(createAuthClient({ ...optionsOf(owner), url: system.internalUrl }));
    const operator = system.asService(AccessInternalService, "operator", "access");
    const created = await operator.createPermission({ name: PERMISSION });
    organizationId = await makeOrganization(system, owner);
    member = await system.newUser();
    seen = [created.consistencyToken, await addMember({ system, owner, organizationId }, member)];
    servers = await startGuardedServers(auth);
    for (const server of servers) opened.use(server);
    await auth.ready;
  });

  after(() => opened.disposeAsync());

  function optionsOf({ accessToken }: TestUser) {
    const keys = ["auth", "access", "organization"].map((callee) => system.keyOf("backend", callee));
    return { keys: { keys }, issuer: decodeJwt(accessToken).iss!, clock: system.clock };
  }

  /** Every guard gives this answer, and shows nothing of `secret`. */
  async function expect(
    wanted: Partial<GuardedAnswer>,
    path: GuardedPath,
    headers: (readonly [string, string])[],
    among = servers,
  ): Promise<void> {
    for (const server of among) {
      const answer = await server.send(path, ...headers);
      const seen = Object.fromEntries(Object.keys(wanted).map((name) => [name, answer[name as keyof GuardedAnswer]]));
      assert.deepEqual(seen, wanted, server.name);
      assert.doesNotMatch(answer.text, /stack|secret|\.ts:/, server.name);
    }
  }

  /** Servers that knew everything, and have been alone for longer than that counts. */
  async function startCutOff({ allowStale }: { allowStale: boolean }) {
    await using starting = new AsyncDisposableStack();
    const { hostname: host, port } = new URL(system.internalUrl);
    const proxy = starting.use(await startFaultProxy({ host, port: Number(port) }));
    const cut = starting.use(createAuthClient({ ...optionsOf(owner), url: proxy.url, allowStale }));
    const { servers } = starting.use(await startTogether(cut));
    await cut.ready;
    await expect({ status: 200 }, "/orders", [bearer(tokenOf(owner))], servers);
    proxy.cut();
    await system.advance(STALE_MS);
    const started = starting.move();
    return { servers, [Symbol.asyncDispose]: () => started.disposeAsync() };
  }

  const bearer = (token: string) => ["authorization", `Bearer ${token}`] as const;
  const tokenOf = (user: TestUser) => system.memberToken(user, organizationId);
  const unauthenticated = {
    ...{ status: 401, code: "unauthenticated", reason: "UNAUTHENTICATED", wwwAuthenticate: "Bearer" },
    ...{ retryAfter: undefined, caller: undefined },
  };

  test("who is signed in gets through, and the handler knows who it is", async () => {
    await expect({ status: 200, caller: member.userId }, "/me", [bearer(member.accessToken)]);
    await expect({ status: 200, caller: member.userId }, "/me", [["Authorization", `bearer ${tokenOf(member)}`]]);
  });

  test("no token, and headers that are not exactly one", async () => {
    const good = tokenOf(owner);
    for (const headers of [
      [],
      [bearer(good), bearer(good)],
      [bearer(good), bearer("nonsense")],
      [["authorization", `Bearer ${good}, Bearer ${good}`]],
      [["authorization", `Bearer ${good},`]],
      [["authorization", `Basic ${good}`]],
      [["authorization", good]],
      [["authorization", "Bearer "]],
      [["cookie", `authorization=Bearer ${good}`]],
    ] as const) {
      for (const path of ["/me", "/orders"] as const) await expect(unauthenticated, path, [...headers]);
    }
  });

  test("a token that is forged, or has expired", async () => {
    const { accessToken } = owner;
    const { issuer, clock } = optionsOf(owner);
    const { gen: generation, auth_time: authenticatedAt } = decodeJwt(accessToken) as {
      gen: number;
      auth_time: number;
    };
    const expiresAt = Math.floor(clock.now() / 1000) - 60;
    const claims = { userId: owner.userId, sessionId: owner.sessionId, generation, authenticatedAt, expiresAt };
    const expired = signAccessToken(createSigner(system.signingKeys), { issuer, clock }, claims);
    const [header, payload] = accessToken.split(".");
    for (const token of [expired, `${header}.${payload}.${"A".repeat(86)}`, `${header}.${payload}.`, "a.b.c"]) {
      await expect(unauthenticated, "/me", [bearer(token)]);
    }
  });

  test("a session that was ended", async () => {
    const user = await system.newUser();
    await expect({ status: 200 }, "/me", [bearer(user.accessToken)]);
    await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
    await until("the session is known to have ended", () =>
      auth.authenticate(user.accessToken).then(
        () => false,
        () => true,
      ),
    );
    await expect(unauthenticated, "/me", [bearer(user.accessToken)]);
  });

  test("a permission that is held, or not, or nowhere", async () => {
    const denied = { status: 403, code: "permission_denied", wwwAuthenticate: undefined, caller: undefined };
    await expect({ status: 200, caller: owner.userId }, "/orders", [bearer(tokenOf(owner))]);
    await expect({ ...denied, reason: "PERMISSION_MISSING" }, "/orders", [bearer(tokenOf(member))]);
    await expect({ ...denied, reason: "NO_ORGANIZATION" }, "/orders", [bearer(owner.accessToken)]);
  });

  test("C20 what the client has seen, in one line or several, is what is decided on", async () => {
    const asked: unknown[] = [];
    const recording: GuardClient = {
      authorize(token, options) {
        asked.push(options);
        return auth.authorize(token, options);
      },
    };
    await using recorded = await startTogether(recording);
    const lines = seen.map((token) => ["consistency-token", token] as const);
    await expect({ status: 200 }, "/orders", [bearer(tokenOf(owner)), ...lines], recorded.servers);
    const consistencyToken = toConsistencyToken(mergeRevisions(...seen.map(fromConsistencyToken)));
    assert.ok(!seen.includes(consistencyToken));
    const wanted = { permission: PERMISSION, consistencyToken };
    assert.deepEqual(asked, Array(recorded.servers.length).fill(wanted));
    const rubbish = { status: 400, code: "invalid_argument", reason: "INVALID_CONSISTENCY_TOKEN" };
    await expect(rubbish, "/orders", [bearer(tokenOf(owner)), ["consistency-token", "rubbish"]]);
  });

  test("R-NET-05 auth is away: 503, and when to come back", async () => {
    await using away = await startCutOff({ allowStale: false });
    const refusal = { status: 503, code: "unavailable", reason: "AUTH_STALE", retryAfter: "1", caller: undefined };
    for (const path of ["/me", "/orders"] as const) {
      await expect({ ...refusal, wwwAuthenticate: undefined }, path, [bearer(tokenOf(owner))], away.servers);
    }
  });

  test("auth is away: what a rule lets go on until the token expires does so, and nothing else", async () => {
    await using away = await startCutOff({ allowStale: true });
    await expect({ status: 200, caller: owner.userId }, "/me", [bearer(tokenOf(owner))], away.servers);
    await expect({ status: 503, reason: "AUTH_STALE" }, "/orders", [bearer(tokenOf(owner))], away.servers);
    await expect(unauthenticated, "/me", [bearer("a.b.c")], away.servers);
  });

  test("closed: whatever else goes wrong lets nobody through and tells nothing", async () => {
    const internal = { status: 500, code: "internal", reason: "INTERNAL", caller: undefined };
    const ourToken = fail(Code.Unauthenticated, "UNAUTHENTICATED", "the secret of another call");
    ourToken.isWireError = true;
    const refusals = [new TypeError("a secret"), undefined, "secret", ourToken];
    for (const refusal of refusals) {
      await using broken = await startTogether({ authorize: () => Promise.reject(refusal) });
      await expect(internal, "/me", [bearer(tokenOf(owner))], broken.servers);
    }
    await using throwing = await startTogether({
      authorize() {
        throw new Error("a secret");
      },
    });
    await expect(internal, "/orders", [bearer(tokenOf(owner))], throwing.servers);
  });

  test("a request that something else has answered meanwhile ends there, and harms nobody", async () => {
    const refusing: GuardClient = {
      authorize: () => Promise.reject(fail(Code.Unauthenticated, "UNAUTHENTICATED", "")),
    };
    const guard = expressGuards(refusing).requireUser();
    const guarded = Promise.withResolvers<void>();
    await using server = createServer((request, response) => {
      response.end("too late");
      guard(request, response, () => assert.fail("let through")).then(guarded.resolve, guarded.reject);
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const headers = { authorization: "Bearer x" };
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { headers });
    assert.equal(await answer.text(), "too late");
    await guarded.promise;
  });

  test("a rule that says less than it seems to does not get as far as a request", () => {
    const guards = [expressGuards(auth), fastifyGuards(auth), honoGuards(auth)];
    for (const require of [requirePermission, ...guards.map((each) => each.requirePermission)]) {
      for (const none of ["", undefined]) assert.throws(() => require(none as string), TypeError);
    }
    assert.throws(() => rulesOf(AuthService, { lohin: "public" } as object), TypeError);
  });

  test("what was said to be public is", async () => {
    await expect({ status: 200 }, "/public", []);
  });
});

async function startTogether(auth: GuardClient) {
  const opened = new AsyncDisposableStack();
  const servers = await startGuardedServers(auth);
  for (const server of servers) opened.use(server);
  return { servers, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}
