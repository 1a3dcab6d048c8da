/** The client while services are away: what it goes on to say, for how long, and that it never says more than is known. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { ConnectError } from "@connectrpc/connect";
import { decodeJwt } from "jose";
import { AccessService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { reasonOf } from "../errors.ts";
import { createTestClient } from "../testing/auth-clients.ts";
import { createTestClock, type TestClock } from "../testing/clock.ts";
import { type FaultProxy, startFaultProxy } from "../testing/fault-proxy.ts";
import { addMember, makeOrganization } from "../testing/memberships.ts";
import { refusalOf } from "../testing/refusals.ts";
import { startTestSystem, type TestSystem, type TestUser } from "../testing/system.ts";
import { until } from "../testing/until.ts";
import { createServiceKey } from "../token/key-making.ts";
import type { AuthClient, AuthClientOptions, Fault } from "./auth-client.ts";

const UNAUTHENTICATED = "Unauthenticated UNAUTHENTICATED";
const AUTH_STALE = "Unavailable AUTH_STALE";

let system: TestSystem;
let owner: TestUser;
let clerk: TestUser;
let organizationId: string;
const opened = new AsyncDisposableStack();

before(async () => {
  system = opened.use(await startTestSystem());
  [owner, clerk] = [await system.newUser(), await system.newUser()];
  organizationId = await makeOrganization(system, owner);
  await addMember({ system, owner, organizationId }, clerk);
  const access = system.asMember(AccessService, owner, organizationId);
  await access.createRole({ name: "cashier", permissions: ["branches:update"] });
});
after(() => opened.disposeAsync());

interface Outage extends AsyncDisposable {
  client: AuthClient;
  clock: TestClock;
  auth: FaultProxy;
  access: FaultProxy;
  faults: Fault[];
}

/** A client with a clock of its own that reaches each service by a way that can be cut. */
async function openOutage(options: Partial<AuthClientOptions> = {}): Promise<Outage> {
  await using ways = new AsyncDisposableStack();
  const { hostname: host, port } = new URL(system.internalUrl);
  const [auth, access] = await Promise.all([1, 2].map(() => startFaultProxy({ host, port: Number(port) })));
  ways.use(auth!);
  ways.use(access!);
  const clock = createTestClock(system.clock.now());
  const faults: Fault[] = [];
  const url = { auth: auth!.url, access: access!.url, organization: system.internalUrl };
  const onFault = (fault: Fault) => void faults.push(fault);
  const client = ways.use(createTestClient(system, owner, { url, clock, onFault, ...options }));
  await client.ready;
  const resources = ways.move();
  return { client, clock, auth: auth!, access: access!, faults, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

test("R-KEY-04 while auth is away, fresh knowledge counts, then nobody is let in, and nobody is called a stranger", async () => {
  await using outage = await openOutage();
  const { client, clock, auth } = outage;
  const token = system.memberToken(owner, organizationId);
  await client.verifyToken(token);
  auth.cut();
  assert.equal((await client.authenticate(token)).userId, owner.userId);
  clock.advance(4_600);
  for (const call of [client.authenticate(token), client.authorize(token), client.verifyToken(token)]) {
    assert.equal(await refusalOf(call), AUTH_STALE);
  }
  assert.equal(await refusalOf(client.authenticate(token, { whenStale: "until_expiry" })), AUTH_STALE);

  // A key that nobody here has heard of may be a new one.
  const [, claims, signature] = token.split(".");
  const header = Buffer.from(JSON.stringify({ alg: "ES256", typ: "at+jwt", kid: "new" })).toString("base64url");
  assert.equal(await refusalOf(client.authenticate([header, claims, signature].join("."))), AUTH_STALE);
  await auth.heal();
  await until("all is well", () => client.verifyToken(token).catch(() => false as const));
});

test("R-KEY-04 where stale answers are allowed, they are given until the token expires", async () => {
  await using outage = await openOutage({ allowStale: true });
  const { client, clock, auth } = outage;
  const token = system.memberToken(owner, organizationId);
  const whenStale = "until_expiry";
  const ask = () => client.authorize(token, { permission: "members:invite", whenStale });
  await ask();
  auth.cut();
  const lifeMs = decodeJwt(token).exp! * 1_000 - clock.now();
  clock.advance(lifeMs / 2);
  assert.equal((await ask()).userId, owner.userId);
  assert.equal(await refusalOf(client.authorize(token, { permission: "members:invite" })), AUTH_STALE);
  clock.advance(lifeMs / 2 + 6_000);
  assert.equal(await refusalOf(ask()), UNAUTHENTICATED);
});

test("R-NET-05 S-SDK-06 while access is away, decisions are right or unavailable, and never a grant", async () => {
  await using outage = await openOutage({ resilience: { breaker: { failures: 1, openMs: 60_000 } } });
  const { client, clock, access, faults } = outage;
  const asOwner = system.asMember(AccessService, owner, organizationId);
  const question = { userId: clerk.userId, organizationId, permission: "branches:update" };
  // Only an event changes what is known, so that none is on its way when access is cut off.
  assert.equal(await client.decidePermission(question), "denied");
  await asOwner.assignRole({ userId: clerk.userId, role: "cashier" });
  await until("the role is known", async () => (await client.decidePermission(question)) === "allowed");
  access.cut();
  await asOwner.unassignRole({ userId: clerk.userId, role: "cashier" });
  // It cannot know; five seconds are the promise.
  assert.equal(await client.decidePermission(question), "allowed");
  const stranger = { ...question, userId: owner.userId };
  assert.equal(await client.decidePermission(stranger), "unavailable");
  assert.equal(client.breakers().access, "open");
  clock.advance(4_600);
  faults.length = 0;
  assert.equal(await client.decidePermission(question), "unavailable");
  assert.equal(await client.checkPermission(question), false);
  assert.deepEqual(
    faults.map(({ operation, error }) => [operation, reasonOf(error)]),
    [
      ["decidePermission", "AUTH_STALE"],
      ["checkPermission", "AUTH_STALE"],
    ],
  );
  await access.heal();
  // Service tokens are dated by the client's clock.
  await system.advance(64_600);
  clock.advance(60_000);
  await until("it is denied", async () => (await client.decidePermission(question)) === "denied");
});

test("before the first keys nobody is refused, and nobody has to wait for them", async () => {
  const auth = opened.use(await startFaultProxy({ host: "127.0.0.1", port: Number(new URL(system.internalUrl).port) }));
  auth.cut();
  const url = { auth: auth.url, access: system.internalUrl, organization: system.internalUrl };
  await using client = createTestClient(system, owner, { url });
  assert.equal(await refusalOf(client.authenticate(owner.accessToken)), AUTH_STALE);
  assert.equal(await refusalOf(client.authenticate("x")), UNAUTHENTICATED);
  await auth.heal();
  await client.ready;
  assert.equal((await client.authenticate(owner.accessToken)).userId, owner.userId);
});

test("S-SDK-09 an error is JSON without a token, whatever has failed", async () => {
  await using outage = await openOutage({ resilience: { breaker: { failures: 1, openMs: 60_000 } } });
  const { client, clock, auth, access } = outage;
  const tokens = [owner, clerk].map((user) => system.memberToken(user, organizationId));
  const [token, clerkToken] = tokens as [string, string];
  const calls = [
    () => client.authenticate(`${token}A`),
    () => client.authorize(clerkToken, { permission: "members:invite" }),
    () => client.authorize(token, { permission: "members:invite", consistencyToken: "x" }),
    () => client.getUserPermissions({ userId: owner.userId, organizationId: crypto.randomUUID() }),
    () => client.service(AuthInternalService).verifyToken({ accessToken: `${token}A` }),
    () => client.verifyToken(token),
  ];
  const errors: unknown[] = [];
  for (const isCut of [false, true]) {
    if (isCut) {
      auth.cut();
      access.cut();
      clock.advance(4_600);
    }
    for (const call of calls) errors.push(await call().catch((error: unknown) => error));
  }
  const told = errors.filter((error) => error instanceof ConnectError);
  assert.equal(told.length, 2 * calls.length - 1);
  for (const error of told) {
    const text = JSON.stringify(error);
    assert.match(text, /"(?:reason":"[A-Z_]+|code":\d+)/);
    for (const shown of [text, inspect(error, { depth: 10, showHidden: true })]) {
      assert.ok(!tokens.some((each) => shown.includes(each.slice(-40))));
    }
  }
});

/** A proxy for REST that counts. */
async function countRequests(): Promise<{ url: string; count: number } & AsyncDisposable> {
  const { port } = new URL(system.server.restUrl!);
  const server = http.createServer((request, response) => {
    counted.count += 1;
    const { method, url: path, headers } = request;
    const onward = http.request({ port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const counted = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    count: 0,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return counted;
}

test("R-SDK-02 while RPCs do not get through, REST decides; what it refuses is refused", async () => {
  await using rest = await countRequests();
  await using outage = await openOutage({ rest });
  const { client, clock, auth, access } = outage;
  const token = system.memberToken(owner, organizationId);
  await client.authenticate(token);
  auth.cut();
  access.cut();
  clock.advance(4_600);
  const told = await client.verifyToken(token);
  assert.deepEqual([told.userId, told.organizationId, told.email], [owner.userId, organizationId, owner.email]);
  assert.ok(told.permissions.includes("members:invite"));
  await client.authorize(token, { permission: "members:invite" });
  assert.equal(rest.count, 1);
  const clerkToken = system.memberToken(clerk, organizationId);
  const missing = client.authorize(clerkToken, { permission: "members:invite" });
  assert.equal(await refusalOf(missing), "PermissionDenied PERMISSION_MISSING");
  assert.deepEqual(await client.getUserLocals({ ...clerk, organizationId }), []);
  const user = await system.newUser();
  await system.asUser(AuthService).logout({ refreshToken: user.refreshToken });
  const isRefused = async () => (await refusalOf(client.authenticate(user.accessToken))) === UNAUTHENTICATED;
  await until("it is refused", () => isRefused().catch(() => false));
  await Promise.all([auth.heal(), access.heal()]);
});

test("a token is good where auth refuses our own key, which says nothing of whoever sent the token", async () => {
  let aheadMs = 0;
  const clock = { ...system.clock, now: () => system.clock.now() + aheadMs };
  const told: Fault[] = [];
  await using unheard = createTestClient(system, owner, { clock, onFault: (fault) => told.push(fault) });
  await unheard.ready;
  aheadMs = 60_000;
  const { userId, email } = await unheard.verifyToken(owner.accessToken);
  assert.deepEqual([userId, email], [owner.userId, ""]);
  assert.deepEqual(
    told.map(({ error }) => reasonOf(error)),
    ["AUTH_STALE"],
  );
});

test("nobody is called a stranger because auth refuses our own key, over REST either", async () => {
  await using rest = await countRequests();
  await using outage = await openOutage({ rest });
  const { client, clock, auth } = outage;
  auth.cut();
  // Service tokens are dated by the client's clock: nobody believes one of tomorrow.
  clock.advance(60_000);
  for (const call of [client.authenticate(owner.accessToken), client.verifyToken(owner.accessToken)]) {
    assert.equal(await refusalOf(call), AUTH_STALE);
  }
  assert.ok(rest.count > 0);
});

test("R-SDK-02 once a probe has come through, nothing more is asked of REST", async () => {
  await using rest = await countRequests();
  await using outage = await openOutage({ rest, resilience: { breaker: { failures: 1, openMs: 60_000 } } });
  const { client, clock, auth } = outage;
  // Of another token each time, so that somebody has to be asked.
  const verify = () => client.verifyToken(system.memberToken(owner, organizationId));
  await verify();
  auth.cut();
  clock.advance(4_600);
  await verify();
  assert.deepEqual([rest.count, client.breakers().auth], [1, "open"]);
  await auth.heal();
  await system.advance(64_600);
  // auth has caught up before the one call of the probe.
  const token = system.memberToken(owner, organizationId);
  await system.asService(AuthInternalService, "backend", "auth").verifyToken({ accessToken: token });
  clock.advance(60_000);
  assert.equal((await verify()).firstName, "Ann");
  assert.equal(client.breakers().auth, "closed");
  for (let calls = 0; calls < 10; calls++) assert.equal((await verify()).firstName, "Ann");
  assert.equal(rest.count, 1);
});

test("S-SDK-04 what was refused is refused: no fallback, and no breaker opens", async () => {
  await using rest = await countRequests();
  await using outage = await openOutage({ rest, resilience: { breaker: { failures: 1, openMs: 60_000 } } });
  const { client } = outage;
  const nobody = { ...owner, userId: crypto.randomUUID(), sessionId: crypto.randomUUID() };
  const token = system.memberToken(clerk, organizationId);
  const refused = [
    client.verifyToken("x"),
    client.verifyToken(system.memberToken(nobody, organizationId)),
    client.authorize(token, { permission: "members:invite" }),
    client.authorize(token, { permission: "members:invite", consistencyToken: "x" }),
    client.getUserLocals({ userId: crypto.randomUUID(), organizationId }),
    client.getUserLocals({ ...clerk, organizationId: crypto.randomUUID() }),
    client.getOrganization(crypto.randomUUID()),
  ];
  const codes = (await Promise.all(refused.map(refusalOf))).map((refusal) => refusal.split(" ")[0]);
  const [unknown, notFound] = ["Unauthenticated", "NotFound"];
  assert.deepEqual(codes, [unknown, unknown, "PermissionDenied", "InvalidArgument", notFound, notFound, notFound]);
  assert.equal(rest.count, 0);
  for (const state of Object.values(client.breakers())) assert.equal(state, "closed");
});

test("S-SDK-04 whom access turns away does not go round by REST", async () => {
  await using rest = await countRequests();
  const keys = [system.keyOf("backend", "auth"), createServiceKey("backend", "access", "backend")];
  const ring = { keys: [...keys, system.keyOf("backend", "organization")] };
  await using client = createTestClient(system, owner, { rest, keys: ring });
  const token = system.memberToken(owner, organizationId);
  await until("auth is followed", () => client.authenticate(token).catch(() => false as const));
  const asked = rest.count;
  assert.equal(await refusalOf(client.authorize(token, { permission: "members:invite" })), AUTH_STALE);
  assert.equal(rest.count, asked);
});
